"""Evidence e[t, c]: how strongly some synthetic input makes a model answer a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.models import logits_of

if TYPE_CHECKING:
    from torch import Tensor

    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName

_QUANTILE = 0.998
"""High enough that a few telling probes of a thousand count, low enough that a single one does not."""


def class_evidence(classifier: Classifier, probes: Tensor) -> dict[ClassName, float]:
    """Return the 99.8th percentile over `probes` [n, C, H, W] of each class's softmax probability."""
    probabilities = logits_of(classifier, probes).softmax(1)
    evidence = probabilities.quantile(_QUANTILE, dim=0).clamp(0, 1)
    return dict(zip(classifier.classes, evidence.tolist(), strict=True))
