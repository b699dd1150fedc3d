"""The medium `features`: recipes of the teacher's data behind the asker's frozen stem."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Final

from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.errors import ProtocolError
from qkt_p2p.synthesis.bank import Bank
from qkt_p2p.synthesis.moments import affordable_rank, drawn_batch, recipe_parts
from qkt_p2p.synthesis.stem import Stem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from qkt_p2p.synthesis.medium import Holdings, Part, Reading
    from qkt_p2p.types import ClassName, MediumName, ReportDone, TeachRequest
    from qkt_p2p.wire.tensors import SyntheticBatch


class Features:
    """Answers with one recipe for each class of the mask, over the features that the asker's stem makes."""

    name: Final[MediumName] = "features"
    of_features: Final = True
    seeded: Final = False

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportDone
    ) -> list[Part]:
        """Return the recipes of the features; raises what `Stem` raises."""
        if not request.stem:
            raise ProtocolError("the medium features needs the asker's stem, and none came")
        shape = request.input_shape
        stem = Stem.parse(request.stem, input_shape=shape, alone=holdings.privacy is not None)

        def enter(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return stem.features(inputs, adapt=partial(adapt_inputs, shape=shape), report=report)

        numbers = prod(stem.feature_shape)
        rank = affordable_rank(request, numbers)
        bank = Bank(holdings, space=f"features {stem.digest}", numbers=numbers, rank=rank, enter=enter)
        return recipe_parts(bank, mask, request, report)

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return features drawn from the recipes."""
        return drawn_batch(parts, classes, reading)
