"""An image folder: one folder per class, either under train/ and test/ or split here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qkt_p2p.datasets.labelled import Dataset, LabelledData, labelled, split_holdout
from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_SPLIT_SEED = 0
_TEST_FRACTION = 0.25


def load_folder(root: Path) -> Dataset:
    """Return the images under `root`; without train/ and test/ a fixed stratified quarter is test data.

    All images have to be of one size. Raises ConfigError naming the file.
    """
    train, test = root / "train", root / "test"
    if not (train.is_dir() and test.is_dir()):
        return Dataset(
            *split_holdout(_load_part(root, _class_folders(root)), _TEST_FRACTION, seed=_SPLIT_SEED)
        )
    names = sorted({*_class_folders(train), *_class_folders(test)})
    return Dataset(_load_part(train, names), _load_part(test, names))


def _class_folders(root: Path) -> list[str]:
    names = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise ConfigError(
            f"{root} holds no class folders", fix="make one folder per class, with its images inside"
        )
    return names


def _load_part(root: Path, names: list[str]) -> LabelledData:
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        for path in sorted((root / name).glob("*")):
            if path.suffix.lower() in _SUFFIXES:
                images.append(_read(path))
                labels.append(label)
                _check_size(images, path)
    if not images:
        raise ConfigError(
            f"{root} holds no images", fix=f"put files of {', '.join(sorted(_SUFFIXES))} into its folders"
        )
    return labelled(np.stack(images), np.array(labels), names, where=str(root))


def _read(path: Path) -> npt.NDArray[np.uint8]:
    """Return one image, grey [H, W] or colour [H, W, 3]."""
    from PIL import Image  # noqa: PLC0415 - only this kind of source needs pillow

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L" if image.mode in {"1", "L", "I", "I;16"} else "RGB"))
    # Of a damaged image pillow raises whatever it comes upon.
    except Exception as error:
        raise ConfigError(
            f"cannot read the image {path}: {error}", fix="remove or repair the file"
        ) from error


def _check_size(images: list[npt.NDArray[np.uint8]], path: Path) -> None:
    if images[-1].shape != images[0].shape:
        raise ConfigError(
            f"{path} is {images[-1].shape}, the images before it {images[0].shape}",
            fix="bring all images to one size and colour mode",
        )
