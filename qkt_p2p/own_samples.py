"""An asker's own data in one lesson: as samples like those that teachers send, and for reading these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, prod
from typing import TYPE_CHECKING, Final

import structlog
import torch

from qkt_p2p.distillation import Response, Spread
from qkt_p2p.errors import PeerError
from qkt_p2p.limits import MAX_DRAWN_NUMBERS
from qkt_p2p.models import features_of
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis import Reading
from qkt_p2p.synthesis.prototypes import Surroundings
from qkt_p2p.types import TeachRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.synthesis import Medium
    from qkt_p2p.teacher import Teacher
    from qkt_p2p.types import ClassName, Query

log = structlog.get_logger(__name__)

_DEVIATIONS: Final = 1000
"""Own samples at most that tell how samples deviate from what recipes describe."""

_USUAL_CLASSES: Final = 16
"""Own classes, and those of all teachers together, for which the memory of samples is planned at least."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who learns: the model before the query, its training and held-out data, and its own `teacher`.

    `stem` is that of the model as a graph; media that are not made of features need none.
    """

    before: Classifier
    train: LabelledData
    holdout: LabelledData
    teacher: Teacher
    stem: bytes


class OwnSamples:
    """The samples that one asker has or makes itself for a query, in the space of the query's medium.

    They are inputs, or features behind the first `settings.cut` blocks of the asker's model. An experiment
    may bring `made`, inputs of the asker's own classes, in place of what its teacher would make.
    """

    def __init__(
        self,
        asker: Asker,
        query: Query,
        medium: Medium,
        settings: LearningSettings,
        *,
        made: Sequence[Response] | None = None,
    ) -> None:
        self._asker = asker
        self._query = query
        self._medium = medium
        self._settings = settings
        self._made = None if made is None else [self.behind_stem(response) for response in made]

    def behind_stem(self, response: Response) -> Response:
        """Return a response whose samples are inputs as one of this space."""
        return replace(response, inputs=self._features(response.inputs))

    def responses(self) -> list[Response]:
        """Return synthetic samples of the asker's own classes, so that style never tells the class.

        Classes of which it has too little data are left out, and all where its model cannot make samples in
        the medium: real ones of its own are in its training data anyway.
        """
        if self._made is None:
            try:
                self._made = [self._own_response(self._shown)] if self._shown else []
            except PeerError as error:
                log.warning("own_samples_left_out", medium=self._medium.name, reason=error.message)
                self._made = []
        return self._made

    def reading(self, taught: int = 0) -> Reading:
        """Return what is known when an answer about `taught` classes is read."""
        of_features = self._medium.of_features
        return Reading(
            shape=self._shape,
            low=self._spread.low if of_features else 0.0,
            high=inf if of_features else 1.0,
            furthest=self._spread.furthest if of_features else inf,
            samples_per_class=self._settings.samples_per_class,
            affordable=self.affordable(taught),
            seed=derived_seed(self._query.seed, "teach"),
            own=self._surroundings,
        )

    def affordable(self, taught: int) -> int:
        """Return how many samples of a class fit into memory beside `taught` classes and the asker's own."""
        classes = max(_USUAL_CLASSES, len(self._shown) + taught)
        return max(1, MAX_DRAWN_NUMBERS // (prod(self._shape) * classes))

    def _own_response(self, mask: tuple[ClassName, ...]) -> Response:
        request = TeachRequest(
            query_id=self._query.query_id,
            medium=self._medium.name,
            seed=derived_seed(self._query.seed, "own"),
            samples_per_class=self._settings.samples_per_class,
            classes=mask,
            input_shape=self._asker.before.input_shape,
            stem=self._asker.stem if self._medium.of_features else b"",
        )
        offer, chunks = self._asker.teacher.teach(request)
        reading = replace(self.reading(), seed=request.seed)
        batch = self._medium.read([chunk.data for chunk in chunks], offer.classes, reading)
        return Response.from_batch("own", batch)

    @cached_property
    def _spread(self) -> Spread:
        # As many samples whichever answer is read first.
        most = min(_DEVIATIONS, self.affordable(0))
        return Spread.measured(self._asker.train, self._features, most=most, seed=self._query.seed)

    @cached_property
    def _surroundings(self) -> Surroundings:
        return Surroundings(self._spread.samples, self._spread.deviations)

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._asker.before.feature_shape(self._settings.cut)

    @cached_property
    def _shown(self) -> tuple[ClassName, ...]:
        """The asker's own classes of which it makes samples."""
        teacher = self._asker.teacher
        return tuple(name for name in self._asker.train.present if teacher.holds(name))

    def _features(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return inputs [n, C, H, W] as samples of this space [n, ...]."""
        features = features_of(self._asker.before, torch.from_numpy(inputs), cut=self._settings.cut)
        return features.numpy()
