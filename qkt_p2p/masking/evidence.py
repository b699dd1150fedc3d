"""Evidence e[t, c]: how strongly synthetic inputs make a model answer a class, and how much it saw of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from qkt_p2p.masking.masks import MASK_THRESHOLD, PROBES
from qkt_p2p.models import features_of, logits_of

if TYPE_CHECKING:
    from qkt_p2p.masking.probes import Probes
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName, ReportDone

_TELLING: Final = 0.002 * PROBES
"""So many telling probes count, however many there are; a single one does not."""

_SUREST: Final = 1 - 1e-4


def class_evidence(
    classifier: Classifier, probes: Probes, report: ReportDone = lambda *_: None
) -> dict[ClassName, float]:
    """Return the evidence in [0, 1] that `probes` of the classifier's inputs give for each class.

    It is the 99.8th percentile over the probes of the class's softmax probability, of more than 1024 probes
    that which as many of them reach. From the mask's threshold
    on, where a model is sure of everything that it knows, that is graded by how likely the head finds the
    class where there is no pattern at all: classes of which it saw little come last there. Raises what
    `report` raises, which is told as by `logits_of`.
    """
    behind = len(classifier.backbone)
    features = torch.cat([features_of(classifier, part, report=report) for part in probes.parts(report)])
    quantile = 1 - _TELLING / max(len(features), PROBES)
    sure = logits_of(classifier, features, cut=behind).softmax(1).quantile(quantile, dim=0).clamp(0, 1)
    flat = features.mean().expand(1, features.shape[1])
    prior = logits_of(classifier, flat, cut=behind).log_softmax(1)[0]
    # How the two are weighed is measured (docs/method.md); 2 centres the grades.
    grades = torch.sigmoid(2 + sure.clamp(max=_SUREST).logit() / 5 + prior / 2)
    evidence = torch.where(sure < MASK_THRESHOLD, sure, MASK_THRESHOLD + (1 - MASK_THRESHOLD) * grades)
    return dict(zip(classifier.classes, evidence.tolist(), strict=True))
