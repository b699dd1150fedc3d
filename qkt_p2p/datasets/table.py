"""A CSV file with a header, a label column and one numeric column per input element."""

from __future__ import annotations

import csv
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qkt_p2p.datasets.labelled import labelled, with_test_quarter
from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_INPUT_ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from qkt_p2p.datasets.labelled import Dataset

_LABEL_COLUMNS = ("label", "class", "target")


def load_csv(path: Path) -> Dataset:
    """Return the rows of `path`, with a fixed stratified quarter as test data.

    The label column is named label, class or target and holds class names. A square number of other
    columns becomes an image, row by row; any other number one row of pixels. Values are whole numbers of
    0 to 255, or lie in [0, 1]. Raises ConfigError naming the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names, values = _parse(file, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"cannot read {path} as CSV: {error}", fix="save it as UTF-8 with commas"
        ) from error
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names])
    data = labelled(_images(values), labels, classes, where=str(path))
    return with_test_quarter(data)


def _parse(lines: Iterable[str], path: Path) -> tuple[list[str], npt.NDArray[np.float64]]:
    rows = csv.reader(lines, strict=True)
    header: list[str] = next(rows, [])
    column = next((at for at, name in enumerate(header) if name.strip().lower() in _LABEL_COLUMNS), None)
    if column is None or not 2 <= len(header) <= MAX_INPUT_ELEMENTS + 1:
        raise ConfigError(
            f"{path}: the header needs a column {' or '.join(_LABEL_COLUMNS)}, and at least one more",
            fix="name the columns in the first line",
        )
    names: list[str] = []
    values: list[list[float]] = []
    for row in rows:
        if len(row) != len(header):
            raise ConfigError(
                f"{path}, line {rows.line_num}: {len(row)} cells where the header has {len(header)}"
            )
        names.append(row[column].strip())
        values.append(_numbers(row[:column] + row[column + 1 :], f"{path}, line {rows.line_num}"))
    if not names:
        raise ConfigError(f"{path} holds no rows below its header")
    return names, np.array(values)


def _numbers(cells: list[str], where: str) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        raise ConfigError(f"{where}: {error}", fix="every column but the label holds numbers") from error


def _images(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | npt.NDArray[np.uint8]:
    side = isqrt(values.shape[1])
    shape = (side, side) if side * side == values.shape[1] else (1, values.shape[1])
    images = values.reshape(-1, *shape)
    finite = np.isfinite(values).all()
    whole = (
        finite and values.min() >= 0 and 1 < values.max() <= 255 and bool((values == np.round(values)).all())
    )
    return images.astype(np.uint8) if whole else images
