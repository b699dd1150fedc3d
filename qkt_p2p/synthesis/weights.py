"""The medium `weights`: the teacher's model itself travels, and the asker inverts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.errors import ConfigError, PeerRefusedError, ProtocolError
from qkt_p2p.models import classifier_from_bytes, classifier_to_bytes
from qkt_p2p.synthesis.files import cut_file, joined_file
from qkt_p2p.synthesis.inversion import inverted_batch
from qkt_p2p.wire.tensors import SyntheticBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.synthesis.medium import Holdings, Part, Reading
    from qkt_p2p.types import ClassName, MediumName, ReportDone, TeachRequest


class Weights:
    """Answers with the model of a built-in architecture; the policy for fetching models decides to whom."""

    name: Final[MediumName] = "weights"
    of_features: Final = False
    seeded: Final = False

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportDone
    ) -> list[Part]:
        """Return the model file in pieces."""
        report(0, 1, "packing the model")
        if not isinstance(holdings.classifier.architecture, str):
            raise PeerRefusedError("this node's model is of its owner's own making and does not travel")
        file = classifier_to_bytes(holdings.classifier)
        return cut_file(file, request.samples_per_class * len(mask), chunk_bytes=holdings.chunk_bytes)

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return inputs that the model takes for the classes of the mask.

        Raises ProtocolError for a model that does not fit, or whose answers are not finite numbers.
        """
        try:
            teacher = classifier_from_bytes(joined_file(parts))
            if missing := [name for name in classes if name not in teacher.classes]:
                raise ProtocolError(f"the model that came does not know {', '.join(missing)[:200]}")
            channels, height, width = reading.shape
            # A model of a far larger size would take all memory before its inputs turn out not to fit.
            adapt_inputs(np.empty((0, *teacher.input_shape), np.float32), (channels, height, width))
            batch = inverted_batch(teacher, classes, reading.count, seed=reading.seed, report=reading.report)
            inputs = adapt_inputs(batch.inputs, (channels, height, width))
        except (ConfigError, PeerRefusedError) as error:
            raise ProtocolError(f"the model that came cannot be used: {error.message}") from error
        if not (np.isfinite(inputs).all() and np.isfinite(batch.targets).all()):
            raise ProtocolError("the model that came answers with numbers that are not finite")
        return SyntheticBatch(inputs, batch.targets, batch.classes)
