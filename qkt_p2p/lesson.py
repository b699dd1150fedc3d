"""The learning of one query on its asker's machine: responses -> phase 1 -> phase 2 -> verdict.

The daemon's worker runs it on what the journal holds; the bench and the oracle run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog
import torch

from qkt_p2p.distillation import (
    Judge,
    Response,
    distill,
    hold_back,
    refine,
    require_measurable,
    split_responses,
    validate,
)
from qkt_p2p.errors import PeerError, ProtocolError
from qkt_p2p.limits import MAX_DRAWN_NUMBERS
from qkt_p2p.models import features_of
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis import Reading, medium_of
from qkt_p2p.types import MEDIA, RECIPE_MEDIA, Query, QueryId, TeachRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation import LearningSettings, Verdict
    from qkt_p2p.models import Classifier
    from qkt_p2p.teacher import Teacher
    from qkt_p2p.types import ClassName, ReportDone

log = structlog.get_logger(__name__)

_RECOGNIZED: Final = 0.98
"""Share of an asker's own `moments` that have to be recognized before it prefers them (docs/method.md)."""

_SAMPLES: Final = 200

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


def preferred_media(asker: Asker, settings: LearningSettings) -> tuple[str, ...]:
    """Return the media in the order in which "auto" takes them.

    `moments` come first where the asker's model recognizes its own classes in its own `moments`: the whole
    network can then learn from inputs, for fewer bytes, and no stem travels. Elsewhere `features` are far
    better, and where the asker knows but one class well: its model takes anything for that class. Nothing but
    the asker's own data is looked at.
    """
    query = Query(QueryId("0" * 16), (), "moments", seed=0, deadline_seconds=0.0)
    lesson = Lesson(asker, query, "moments", replace(settings, samples_per_class=_SAMPLES))
    if not lesson.judge.competent:
        return MEDIA
    shares = [lesson.judge.recognized(response) for response in lesson.own_responses()]
    if not shares or min(shares) < _RECOGNIZED:
        return MEDIA
    return ("moments", *(medium for medium in MEDIA if medium != "moments"))


class Lesson:
    """One query's learning in one medium; each step follows from its arguments and the query's seed alone."""

    def __init__(
        self,
        asker: Asker,
        query: Query,
        medium: str,
        settings: LearningSettings,
        *,
        own: Sequence[Response] | None = None,
    ) -> None:
        """Take what belongs to one query; an experiment may bring samples of the asker's `own` classes."""
        found = medium_of(medium)
        if found is None:
            raise ProtocolError(f"there is no medium {medium[:40]!r}")
        self._asker = asker
        self._query = query
        self._medium = found
        self._settings = replace(
            settings.lighter() if query.light else settings,
            cut=asker.before.cut if found.of_features else 0,
            least_query_accuracy=(
                settings.least_query_accuracy if found.name in RECIPE_MEDIA else settings.least_easy_accuracy
            ),
        )
        self.judge = Judge(asker.before, asker.train.counts, self._settings.cut)
        self._own = None if own is None else [self.behind_stem(response) for response in own]
        self._own_deviations: npt.NDArray[np.float32] | None = None

    def read(
        self,
        source: str,
        classes: Sequence[ClassName],
        parts: Sequence[bytes],
        weights: Mapping[ClassName, float],
        report: ReportDone = lambda *_: None,
    ) -> Response:
        """Return what `source` taught.

        Raises ProtocolError where it is not usable, PeerError where it contradicts what the asker knows, and
        what `report` raises.
        """
        reading = replace(self._reading(), report=report)
        response = Response.from_batch(source, self._medium.read(parts, classes, reading), weights)
        if self._medium.name in RECIPE_MEDIA:
            self.judge.require_agreement(response)
        return response

    def grown(self) -> Classifier:
        """Return the model before the query with rows for the classes asked for."""
        seed = derived_seed(self._query.seed, "grow")
        return self._asker.before.grown(self._query.classes, seed=seed)

    def phase1(
        self, taught: Sequence[Response], progress: ReportDone, student: Classifier | None = None
    ) -> Classifier:
        """Return the grown student after query-focused distillation; experiments start from another one.

        Raises UpdateRefusedError where the update would be refused however well it learned: a class of the
        student has no sample anywhere, or no own class one that is held out, and the owner did not `force`.
        """
        asker = self._asker
        shown, held = self.split(taught)
        if not self._query.force:
            require_measurable(asker.before, asker.holdout, held, self._query.classes)
        return distill(
            student or self.grown(),
            asker.train,
            shown,
            self._settings,
            seed=derived_seed(self._query.seed, "phase1"),
            progress=progress,
        )

    def phase2(self, student: Classifier, taught: Sequence[Response], progress: ReportDone) -> Classifier:
        """Return the student with its head refined, and balanced between the query and own classes."""
        refined = refine(
            student,
            self._asker.train,
            self.split(taught)[0],
            self._settings,
            seed=derived_seed(self._query.seed, "phase2"),
            progress=progress,
        )
        asker = self._asker
        return hold_back(refined, asker.before, asker.holdout, self._query.classes, self._settings)

    def validate(self, student: Classifier, taught: Sequence[Response]) -> Verdict:
        """Return the gate's verdict on the student, on data that nothing was trained on."""
        return validate(
            self._asker.before,
            student,
            own_holdout=self._asker.holdout,
            responses_holdout=self.split(taught)[1],
            query=self._query.classes,
            settings=self._settings,
            unseen=self._query.force,
        )

    def split(self, taught: Sequence[Response]) -> tuple[list[Response], list[Response]]:
        """Return what teachers and the asker itself made: (for training, held out)."""
        seed = derived_seed(self._query.seed, "holdout")
        return split_responses([*taught, *self.own_responses()], self._settings.holdout_fraction, seed=seed)

    def behind_stem(self, response: Response) -> Response:
        """Return a response whose samples are inputs as one of the lesson's own kind."""
        return replace(response, inputs=self._features(response.inputs))

    def _features(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return inputs [n, C, H, W] as samples of the lesson's kind [n, ...]."""
        features = features_of(self._asker.before, torch.from_numpy(inputs), cut=self._settings.cut)
        return features.numpy()

    def own_responses(self) -> list[Response]:
        """Return synthetic samples of the asker's own classes, so that style never tells the class.

        Classes of which it has too little data are left out, and all where its model cannot make samples in
        the medium: real ones of its own are in its training data anyway.
        """
        if self._own is None:
            teacher = self._asker.teacher
            mask = tuple(name for name in self._asker.train.present if teacher.holds(name))
            try:
                self._own = [self._own_response(mask)] if mask else []
            except PeerError as error:
                log.warning("own_samples_left_out", medium=self._medium.name, reason=error.message)
                self._own = []
        return self._own

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
        reading = replace(self._reading(), seed=request.seed)
        batch = self._medium.read([chunk.data for chunk in chunks], offer.classes, reading)
        return Response.from_batch("own", batch)

    def _reading(self) -> Reading:
        before = self._asker.before
        shape = before.feature_shape(self._settings.cut)
        affordable = max(1, MAX_DRAWN_NUMBERS // (prod(shape) * _RESPONSES_IN_MEMORY))
        return Reading(
            shape=shape,
            low=self._lowest_feature() if self._medium.of_features else 0.0,
            high=inf if self._medium.of_features else 1.0,
            samples_per_class=self._settings.samples_per_class,
            affordable=affordable,
            seed=derived_seed(self._query.seed, "teach"),
            deviations=self._deviations(min(_DEVIATIONS, affordable)),
        )

    def _deviations(self, most: int) -> npt.NDArray[np.float32]:
        """Return [n, d] how own samples, `most` of them, deviate from the mean of their class."""
        if self._own_deviations is None:
            own = self._asker.train
            seed = derived_seed(self._query.seed, "deviations")
            some = own.select(np.random.default_rng(seed).permutation(len(own))[:most])
            samples = self._features(some.inputs).reshape(len(some), -1)
            labels, at = np.unique(some.labels, return_inverse=True)
            means = np.stack([samples[some.labels == label].mean(0) for label in labels])
            self._own_deviations = samples - means[at]
        return self._own_deviations

    def _lowest_feature(self) -> float:
        """Return 0 where the stem ends in a rectifier: features that are drawn must not be below it."""
        some = self._features(self._asker.train.inputs[:256])
        return 0.0 if some.min(initial=0.0) >= 0 else -inf
