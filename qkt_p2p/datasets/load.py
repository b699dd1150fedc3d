"""From the `source` of node.toml to a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.datasets.archive import load_npz
from qkt_p2p.datasets.digits import load_digits
from qkt_p2p.datasets.factory import load_from_function
from qkt_p2p.datasets.folder import load_folder
from qkt_p2p.datasets.idx import holds_idx, load_idx
from qkt_p2p.datasets.table import load_csv
from qkt_p2p.errors import ConfigError
from qkt_p2p.references import is_reference

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_p2p.datasets.labelled import Dataset

_KINDS = 'digits, an .npz, a .csv, a folder of MNIST files or images, or "package.module:function"'


def load_dataset(source: str, *, root: Path) -> Dataset:
    """Return the data set that `source` names; relative paths start at `root`.

    Raises ConfigError that says what is unreadable, where, and how to mend it.
    """
    if source == "digits":
        return load_digits()
    if is_reference(source):
        return load_from_function(source)
    path = root / source
    try:
        if path.is_dir():
            return load_idx(path) if holds_idx(path) else load_folder(path)
        if not path.is_file():
            raise ConfigError(f"there is no data at {path}", fix=f"set [data] source to {_KINDS}")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}", fix="check the path and its permissions") from error
    match path.suffix.lower():
        case ".npz":
            return load_npz(path)
        case ".csv":
            return load_csv(path)
    raise ConfigError(f"{path} is no kind of data that is known", fix=f"set [data] source to {_KINDS}")
