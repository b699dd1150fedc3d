"""`.npz` files in the MedMNIST convention: {train,test}_{images,labels} and, if wanted, class_names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qkt_p2p.datasets.labelled import Dataset, Inputs, LabelledData, labelled
from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_CLASSES

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_npz(path: Path) -> Dataset:
    """Return the data set in `path`; without class_names the classes are "0", "1", ... Raises ConfigError."""
    arrays = _read(path)
    if missing := [key for key in _KEYS if key not in arrays]:
        raise ConfigError(
            f"{path} lacks {', '.join(missing)}", fix=f"store {', '.join(_KEYS)}, as MedMNIST does"
        )
    names = _class_names(arrays, path)
    parts = [
        labelled(arrays[f"{part}_images"], arrays[f"{part}_labels"], names, where=f"{path} ({part})")
        for part in ("train", "test")
    ]
    return Dataset(*parts)


def save_npz(path: Path, dataset: Dataset) -> None:
    """Write `dataset` to `path`, which loads back identical; raises OSError as open() does."""
    arrays: dict[str, npt.NDArray[Any]] = {"class_names": np.array(dataset.train.classes)}
    for part, data in (("train", dataset.train), ("test", dataset.test)):
        arrays[f"{part}_images"] = _images(data)
        arrays[f"{part}_labels"] = data.labels
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _images(data: LabelledData) -> npt.NDArray[Any]:
    """Return images with channels last, as uint8 where that is exact."""
    images = data.inputs.transpose(0, 2, 3, 1)
    levels = np.round(images * 255).astype(np.uint8)
    exact: Inputs = levels.astype(np.float32) / np.float32(255)
    return levels if np.array_equal(exact, images) else images


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            several = isinstance(archive, np.lib.npyio.NpzFile)
            arrays = {key: archive[key] for key in archive.files} if several else {}
    # Of a damaged archive zipfile, zlib and numpy raise whatever they come upon.
    except Exception as error:
        raise ConfigError(
            f"cannot read {path} as .npz: {error}", fix="check the file; pickled arrays are refused"
        ) from error
    if not several:
        raise ConfigError(f"{path} holds a single array", fix="save it with numpy.savez")
    # What is no array comes as the bytes that it is.
    if foreign := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ConfigError(f"{path}: {', '.join(foreign)[:200]} is no array", fix="save it with numpy.savez")
    return arrays


def _class_names(arrays: dict[str, npt.NDArray[Any]], path: Path) -> list[str]:
    if "class_names" in arrays:
        try:
            return [str(name) for name in arrays["class_names"].reshape(-1)]
        # numpy keeps characters that Python knows none for.
        except (SystemError, ValueError) as error:
            raise ConfigError(f"{path} has class_names that are no text: {error}") from error
    labels = np.concatenate([arrays["train_labels"].reshape(-1), arrays["test_labels"].reshape(-1)])
    if labels.dtype.kind not in "iu" or not len(labels) or labels.max() >= MAX_CLASSES:
        raise ConfigError(f"{path} has neither class_names nor labels of 0 to {MAX_CLASSES - 1}")
    return [str(label) for label in range(int(labels.max()) + 1)]
