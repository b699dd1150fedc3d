"""Labelled arrays: what a node learns from.

labelled        LabelledData and Dataset, checked on the way in
load            a source as written in node.toml -> Dataset
digits, archive, idx, folder, table, factory    one module per kind of source
adapt           inputs of one shape brought to another
partitions      one data set -> the parts of several nodes
"""

from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.datasets.archive import save_npz
from qkt_p2p.datasets.labelled import Dataset, LabelledData, first_of_each, split_holdout
from qkt_p2p.datasets.load import load_dataset
from qkt_p2p.datasets.partitions import dirichlet, pathological

__all__ = [
    "Dataset",
    "LabelledData",
    "adapt_inputs",
    "dirichlet",
    "first_of_each",
    "load_dataset",
    "pathological",
    "save_npz",
    "split_holdout",
]
