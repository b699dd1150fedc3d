"""The medium `noise`: answers to structured noise; a seed travels one way, soft targets the other."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_ANSWERED_NUMBERS
from qkt_p2p.masking.probes import Probes
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.files import cut_file, joined_file
from qkt_p2p.synthesis.targets import soft_answers
from qkt_p2p.wire.tensors import SyntheticBatch, decode_targets, encode_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from qkt_p2p.models import Classifier
    from qkt_p2p.synthesis.medium import Holdings, Part, Reading
    from qkt_p2p.types import ClassName, MediumName, ReportDone, Shape, TeachRequest


class Noise:
    """Answers with the masked softmax to probes; a control for other media, as it teaches next to nothing."""

    name: Final[MediumName] = "noise"
    of_features: Final = False
    seeded: Final = True

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportDone
    ) -> list[Part]:
        """Return targets for probes of the asker's size, `samples_per_class` for each class of the mask.

        Raises PeerRefusedError for a size that the model cannot take, ProtocolError for too many probes.
        """
        count = request.samples_per_class * len(mask)
        answers = _answers(holdings.classifier, request, count, report)
        cut = answers[:, [holdings.classifier.classes.index(name) for name in mask]] + 1e-9
        targets = encode_targets(cut / cut.sum(1, keepdims=True))
        return cut_file(targets, count, chunk_bytes=holdings.chunk_bytes)

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return the same probes with these targets, as many of them as are affordable."""
        count, kept = reading.samples_per_class * len(classes), reading.count * len(classes)
        targets = decode_targets(joined_file(parts), samples=count, classes=classes)
        channels, height, width = reading.shape
        inputs = _noise((channels, height, width), count, reading.seed).made(0, kept).numpy()
        return SyntheticBatch(inputs, targets[:kept], tuple(classes))


def _answers(
    classifier: Classifier, request: TeachRequest, count: int, report: ReportDone
) -> npt.NDArray[np.float32]:
    """Return the softmax [count, len(classifier.classes)] of the request's probes."""
    shape, own = request.input_shape, classifier.input_shape
    # All is checked before anything is made: what a request can ask for would take any memory.
    adapt_inputs(np.empty((0, *shape), np.float32), own)
    numbers = max(prod(shape), prod(own))
    if count * numbers > MAX_ANSWERED_NUMBERS:
        raise ProtocolError(
            f"{count} probes of {numbers} numbers are too many, allowed are {MAX_ANSWERED_NUMBERS} numbers"
        )
    parts = _noise(shape, count, request.seed).parts(report, grown=prod(own))
    return np.concatenate(
        [soft_answers(classifier, adapt_inputs(part.numpy(), own), report) for part in parts]
    )


def _noise(shape: Shape, count: int, seed: int) -> Probes:
    return Probes(shape, count, seed=derived_seed(seed, "noise"))
