"""Data from the owner's own code: "package.module:function" names a function that returns a Dataset."""

from __future__ import annotations

from qkt_p2p.datasets.labelled import Dataset
from qkt_p2p.errors import ConfigError
from qkt_p2p.references import call_reference


def load_from_function(source: str) -> Dataset:
    """Return what the function named by `source` returns; raises ConfigError where that is no Dataset."""
    dataset = call_reference(source, "data")
    if not isinstance(dataset, Dataset):
        raise ConfigError(
            f"{source}() returned {type(dataset).__name__}", fix="return a qkt_p2p.datasets.Dataset"
        )
    return dataset
