"""A folder of MNIST's IDX files, plain or gzipped: {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qkt_p2p.datasets.labelled import Dataset, labelled
from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_UNSIGNED_BYTE = 8


def holds_idx(folder: Path) -> bool:
    """Tell whether `folder` looks like MNIST's."""
    return any(folder.glob("*-images?idx3-ubyte*"))


def load_idx(folder: Path) -> Dataset:
    """Return the data set in `folder`; classes are "0", "1", ... Raises ConfigError."""
    arrays = {
        (part, kind): _read(_find(folder, f"{prefix}-{kind}"))
        for part, prefix in (("train", "train"), ("test", "t10k"))
        for kind in ("images?idx3", "labels?idx1")
    }
    names = [str(label) for label in range(int(arrays["train", "labels?idx1"].max(initial=0)) + 1)]
    parts = [
        labelled(arrays[part, "images?idx3"], arrays[part, "labels?idx1"], names, where=f"{folder} ({part})")
        for part in ("train", "test")
    ]
    return Dataset(*parts)


def _find(folder: Path, stem: str) -> Path:
    found = sorted(folder.glob(f"{stem}-ubyte*"))
    if not found:
        raise ConfigError(
            f"{folder} lacks {stem.replace('?', '-')}-ubyte", fix="put MNIST's four files there"
        )
    return found[0]


def _read(path: Path) -> npt.NDArray[np.uint8]:
    """Return one IDX array of unsigned bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    if data[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or not 1 <= dimensions <= 3 or len(data) < start:
        raise ConfigError(f"{path} is not an IDX file of unsigned bytes")
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if 0 in shape:
        raise ConfigError(f"{path} holds nothing", fix="fetch it again")
    expected = start + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise ConfigError(
            f"{path} has {len(data)} bytes where its header says {expected}", fix="fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
