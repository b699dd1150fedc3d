"""Masked soft targets: what a teacher says of a synthetic sample, over the classes of the mask alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from qkt_p2p.models import logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName, ReportDone

TEMPERATURE: Final = 2.0
LABEL_SHARE: Final = 0.6
"""Share of the class that a sample was made for; over a half, so that it leads. The rest is the answer."""


def soft_answers(
    classifier: Classifier, inputs: npt.NDArray[np.float32], report: ReportDone = lambda *_: None
) -> npt.NDArray[np.float32]:
    """Return the softmax [n, len(classifier.classes)] of inputs [n, C, H, W] at temperature 2.

    Raises what `report` raises, which is told as by `logits_of`.
    """
    logits = logits_of(classifier, torch.from_numpy(inputs), report=report)
    answers: npt.NDArray[np.float32] = (logits / TEMPERATURE).softmax(1).cpu().numpy()
    return answers


def masked_targets(
    answers: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    classes: Sequence[ClassName],
    mask: Sequence[ClassName],
) -> npt.NDArray[np.float32]:
    """Return targets [n, len(mask)] from answers [n, len(classes)] and labels [n], columns of the mask.

    The answers are cut to the mask and renormalized: the paper's masking. Mixing in the label is ours.
    """
    cut = answers[:, [classes.index(name) for name in mask]] + np.float32(1e-9)
    one_hot = np.eye(len(mask), dtype=np.float32)[labels]
    targets: npt.NDArray[np.float32] = LABEL_SHARE * one_hot + (1 - LABEL_SHARE) * cut / cut.sum(
        1, keepdims=True
    )
    return targets
