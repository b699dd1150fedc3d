"""The handwritten digits that ship inside scikit-learn: 1797 images of 8x8, ten classes.

They are read from the package's own file: importing sklearn.datasets takes a second, this a tenth.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qkt_p2p.datasets.labelled import labelled, with_test_quarter
from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from qkt_p2p.datasets.labelled import Dataset

_FULL_SCALE = 16


def load_digits() -> Dataset:
    """Return the digits, 1x8x8, with a fixed stratified quarter as test data."""
    path = _digits_file()
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", fix="pip install --force-reinstall scikit-learn"
        ) from error
    images = table[:, :-1].reshape(-1, 8, 8) / np.float32(_FULL_SCALE)
    names = [str(digit) for digit in range(10)]
    data = labelled(images, table[:, -1].astype(np.int64), names, where=str(path))
    return with_test_quarter(data)


def _digits_file() -> Path:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the digits need scikit-learn, which is not installed", fix="pip install scikit-learn"
        )
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
