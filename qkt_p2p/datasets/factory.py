"""Data from the owner's own code: "package.module:function" names a function that returns a Dataset."""

from __future__ import annotations

import re
from importlib import import_module

from qkt_p2p.datasets.labelled import Dataset
from qkt_p2p.errors import ConfigError

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_reference(source: str) -> bool:
    """Tell whether `source` has the form "package.module:function"."""
    return _REFERENCE.fullmatch(source) is not None


def load_from_function(source: str) -> Dataset:
    """Return what the function named by `source` returns; raises ConfigError where that is no Dataset."""
    module, _, name = source.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot load data from {source}: {error}", fix="check PYTHONPATH and the name"
        ) from error
    try:
        dataset = function()
    except Exception as error:
        raise ConfigError(f"{source}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(dataset, Dataset):
        raise ConfigError(
            f"{source}() returned {type(dataset).__name__}", fix="return a qkt_p2p.datasets.Dataset"
        )
    return dataset
