"""An asker's own data in one lesson: as samples like those that teachers send, and for reading these."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

_RESPONSES_IN_MEMORY: Final = 16
"""Classes of all teachers together for which the memory of drawn samples is planned."""


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
        self._spread: Spread | None = None

    def behind_stem(self, response: Response) -> Response:
        """Return a response whose samples are inputs as one of this space."""
        return replace(response, inputs=self._features(response.inputs))

    def responses(self) -> list[Response]:
        """Return synthetic samples of the asker's own classes, so that style never tells the class.

        Classes of which it has too little data are left out, and all where its model cannot make samples in
        the medium: real ones of its own are in its training data anyway.
        """
        if self._made is None:
            teacher = self._asker.teacher
            mask = tuple(name for name in self._asker.train.present if teacher.holds(name))
            try:
                self._made = [self._own_response(mask)] if mask else []
            except PeerError as error:
                log.warning("own_samples_left_out", medium=self._medium.name, reason=error.message)
                self._made = []
        return self._made

    def reading(self) -> Reading:
        """Return what is known when an answer to the query is read."""
        of_features = self._medium.of_features
        shape = self._asker.before.feature_shape(self._settings.cut)
        affordable = max(1, MAX_DRAWN_NUMBERS // (prod(shape) * _RESPONSES_IN_MEMORY))
        spread = self._measured(min(_DEVIATIONS, affordable))
        return Reading(
            shape=shape,
            low=spread.low if of_features else 0.0,
            high=inf if of_features else 1.0,
            furthest=spread.furthest if of_features else inf,
            samples_per_class=self._settings.samples_per_class,
            affordable=affordable,
            seed=derived_seed(self._query.seed, "teach"),
            deviations=spread.deviations,
        )

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

    def _measured(self, most: int) -> Spread:
        """Return how own samples lie, by `most` of them."""
        if self._spread is None:
            self._spread = Spread.measured(
                self._asker.train, self._features, most=most, seed=self._query.seed
            )
        return self._spread

    def _features(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return inputs [n, C, H, W] as samples of this space [n, ...]."""
        features = features_of(self._asker.before, torch.from_numpy(inputs), cut=self._settings.cut)
        return features.numpy()
