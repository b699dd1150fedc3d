"""The data set of a bench, cut to the size that it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qkt_p2p.datasets import Dataset, LabelledData, load_dataset
from qkt_p2p.errors import UsageError
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from qkt_bench.plan import FederationPlan


def load_source(plan: FederationPlan, *, seed: int) -> Dataset:
    """Return the training samples that are dealt out and the test samples that are measured on.

    Every input is there once: public data sets repeat some, and have some of their test data among their
    training data (`brain_tumor_mri.npz`: 104 of 655). Test samples are the same for every seed. Raises
    ConfigError for unusable data, UsageError for a side that the images cannot be pooled to.
    """
    data = load_dataset(plan.source, root=Path.cwd())
    train = data.train.distinct()
    test = data.test.distinct().without(train)
    train = train.restrict(
        train.present, plan.samples_per_class or None, seed=derived_seed(seed, "bench", "samples")
    )
    test = test.restrict(train.present, plan.test_samples or None, seed=0)
    return Dataset(pooled(train, plan.side), pooled(test, plan.side))


def pooled(data: LabelledData, side: int) -> LabelledData:
    """Return square images of `side` pixels, each the mean of a block; 0 leaves them as they are."""
    channels, height, width = data.input_shape
    if side in (0, height) and height == width:
        return data
    if side == 0:
        return data
    if height != width or height % side:
        raise UsageError(
            f"images of {height}x{width} cannot be pooled to {side}x{side}", fix="--side a divisor, or 0"
        )
    block = height // side
    blocks = data.inputs.reshape(-1, channels, side, block, side, block)
    return LabelledData(blocks.mean((3, 5), dtype=np.float32), data.labels, data.classes)
