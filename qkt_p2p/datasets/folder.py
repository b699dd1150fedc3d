"""An image folder: one folder per class, either under train/ and test/ or split here."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

from qkt_p2p.datasets.labelled import Dataset, labelled, with_test_quarter
from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt
    from PIL.Image import Image

    Levels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})


def load_folder(root: Path) -> Dataset:
    """Return the images under `root`; without train/ and test/ a fixed stratified quarter is test data.

    Images are turned as they are shown, by their orientation in EXIF. All have to be of one size, colour mode
    and depth. Raises ConfigError naming the file.
    """
    train, test = root / "train", root / "test"
    if not (train.is_dir() and test.is_dir()):
        folders = _class_folders(root)
        names = sorted(folders)
        whole = labelled(*_read_part(root, names, folders), names, where=str(root))
        return with_test_quarter(whole)
    folders, others = _class_folders(train), _class_folders(test)
    names = sorted({*folders, *others})
    shown, unseen = _read_part(train, names, folders), _read_part(test, names, others)
    # Each is scaled by the full scale of its depth: what fills 12 of 16 bits is dark beside 8 bits.
    if shown[0].dtype != unseen[0].dtype:
        raise ConfigError(
            f"{train} holds {shown[0].dtype} images, {test} {unseen[0].dtype} ones",
            fix="bring all images to one depth, 8 or 16 bits",
        )
    return Dataset(
        labelled(*shown, names, where=str(train)),
        labelled(*unseen, names, where=str(test)),
    )


def _class_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each class. File systems of a Mac may take names apart (NFD): classes are NFC."""
    folders: dict[str, Path] = {}
    for folder in sorted(root.iterdir()):
        name = unicodedata.normalize("NFC", folder.name)
        if not folder.is_dir() or name.startswith("."):
            continue
        if name in folders:
            raise ConfigError(
                f"{root} holds two folders {name!r}, which differ in Unicode's form alone",
                fix="bring their images into one of them",
            )
        folders[name] = folder
    if not folders:
        raise ConfigError(
            f"{root} holds no class folders", fix="make one folder per class, with its images inside"
        )
    return folders


def _read_part(
    root: Path, names: list[str], folders: Mapping[str, Path]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the images in `folders` under `root`, all alike, and their labels: places in `names`."""
    images: list[Levels] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        for path in sorted(folders[name].glob("*") if name in folders else ()):
            if path.suffix.lower() in _SUFFIXES:
                images.append(_read(path))
                labels.append(label)
                _check_alike(images, path)
    if not images:
        raise ConfigError(
            f"{root} holds no images", fix=f"put files of {', '.join(sorted(_SUFFIXES))} into its folders"
        )
    return np.stack(images), np.array(labels)


def _read(path: Path) -> Levels:
    """Return one image, grey [H, W] of 8 or 16 bits or colour [H, W, 3] of 8 bits."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - only this kind of source needs pillow

    try:
        with Image.open(path) as image:
            return _levels(ImageOps.exif_transpose(image), path)
    except ConfigError:
        raise
    # Of a damaged image pillow raises whatever it comes upon.
    except Exception as error:
        raise ConfigError(
            f"cannot read the image {path}: {error}", fix="remove or repair the file"
        ) from error


def _levels(image: Image, path: Path) -> Levels:
    """Return an image's levels; ConfigError where neither 8 nor 16 bits hold them.

    Pillow's own conversion of more than 8 bits cuts all above 255 off.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        if levels.min() >= 0 and levels.max() <= np.iinfo(np.uint16).max:
            return levels.astype(np.uint16)
        found = f"levels from {levels.min()} to {levels.max()}"
    elif image.mode == "F":
        found = "floating-point levels"
    else:
        return np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))
    raise ConfigError(
        f"the image {path} holds {found}, which 16 bits cannot hold",
        fix="store it with 8 or 16 bits, or the images as float arrays in [0, 1] in an .npz file",
    )


def _check_alike(images: list[Levels], path: Path) -> None:
    if images[-1].shape != images[0].shape:
        raise ConfigError(
            f"{path} is {images[-1].shape}, the images before it {images[0].shape}",
            fix="bring all images to one size and colour mode",
        )
    # Levels that mean different things in different files would tell the classes apart by their files.
    if images[-1].dtype != images[0].dtype:
        raise ConfigError(
            f"{path} is {images[-1].dtype}, the images before it {images[0].dtype}",
            fix="bring all images to one depth, 8 or 16 bits",
        )
