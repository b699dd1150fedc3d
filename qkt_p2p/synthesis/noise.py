"""The medium `noise`: answers to structured noise; a seed travels one way, soft targets the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.masking.probes import make_probes
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.files import cut_file, joined_file
from qkt_p2p.synthesis.targets import soft_answers
from qkt_p2p.wire.tensors import SyntheticBatch, decode_targets, encode_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from qkt_p2p.models.training import ReportProgress
    from qkt_p2p.synthesis.medium import Holdings, Part, Reading
    from qkt_p2p.types import ClassName, MediumName, Shape, TeachRequest


class Noise:
    """Answers with the masked softmax to probes; a control for other media, as it teaches next to nothing."""

    name: Final[MediumName] = "noise"
    of_features: Final = False
    seeded: Final = True

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportProgress
    ) -> list[Part]:
        """Return targets for probes of the asker's size, `samples_per_class` for each class of the mask."""
        count = request.samples_per_class * len(mask)
        inputs = adapt_inputs(
            _noise(request.input_shape, count, request.seed), holdings.classifier.input_shape
        )
        answers = soft_answers(holdings.classifier, inputs, report)
        cut = answers[:, [holdings.classifier.classes.index(name) for name in mask]] + 1e-9
        targets = encode_targets(cut / cut.sum(1, keepdims=True))
        return cut_file(targets, count, chunk_bytes=holdings.chunk_bytes)

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return the same probes with these targets, as many of them as are affordable."""
        count, kept = reading.samples_per_class * len(classes), reading.count * len(classes)
        targets = decode_targets(joined_file(parts), samples=count, classes=classes)
        channels, height, width = reading.shape
        inputs = _noise((channels, height, width), count, reading.seed)
        return SyntheticBatch(inputs[:kept], targets[:kept], tuple(classes))


def _noise(shape: Shape, count: int, seed: int) -> npt.NDArray[np.float32]:
    noise: npt.NDArray[np.float32] = make_probes(shape, count, seed=derived_seed(seed, "noise")).numpy()
    return noise
