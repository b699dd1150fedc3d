"""The learning of one query on its asker's machine: responses -> phase 1 -> phase 2 -> verdict.

The daemon's worker runs it on what the journal holds; the bench and the oracle run the same code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

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
from qkt_p2p.errors import ProtocolError
from qkt_p2p.own_samples import OwnSamples
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis import medium_of
from qkt_p2p.types import MEDIA, RECIPE_MEDIA, Query, QueryId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkt_p2p.distillation import LearningSettings, Verdict
    from qkt_p2p.models import Classifier
    from qkt_p2p.own_samples import Asker
    from qkt_p2p.types import ClassName, ReportDone

_RECOGNIZED: Final = 0.98
"""Share of an asker's own `moments` that have to be recognized before it prefers them (docs/method.md)."""

_SAMPLES: Final = 200


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
    shares = [lesson.judge.recognized(response) for response in lesson.own.responses()]
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
            lifelike=found.name in RECIPE_MEDIA,
        )
        self.judge = Judge(asker.before, asker.train.counts, self._settings.cut)
        self.own = OwnSamples(asker, query, found, self._settings, made=own)

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
        reading = replace(self.own.reading(len(classes)), report=report)
        response = Response.from_batch(source, self._medium.read(parts, classes, reading), weights)
        if self._settings.lifelike:
            self.judge.require_agreement(response)
        return response

    def fitting(self, response: Response, taught: int) -> Response:
        """Return as much of a response as fits into memory beside all others of the query.

        They are of `taught` classes, each counted once for each teacher of it, and of the asker's own.
        """
        return response.at_most(self.own.affordable(taught))

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
            self._settings_for(taught),
            seed=derived_seed(self._query.seed, "phase1"),
            progress=progress,
        )

    def phase2(self, student: Classifier, taught: Sequence[Response], progress: ReportDone) -> Classifier:
        """Return the student with its head refined, and balanced between the query and own classes."""
        settings = self._settings_for(taught)
        refined = refine(
            student,
            self._asker.train,
            self.split(taught)[0],
            settings,
            seed=derived_seed(self._query.seed, "phase2"),
            progress=progress,
        )
        asker = self._asker
        return hold_back(refined, asker.before, asker.holdout, self._query.classes, settings)

    def validate(self, student: Classifier, taught: Sequence[Response]) -> Verdict:
        """Return the gate's verdict on the student, on data that nothing was trained on."""
        return validate(
            self._asker.before,
            student,
            own_holdout=self._asker.holdout,
            responses_holdout=self.split(taught)[1],
            query=self._query.classes,
            settings=self._settings_for(taught),
            unseen=self._query.force,
        )

    def split(self, taught: Sequence[Response]) -> tuple[list[Response], list[Response]]:
        """Return what teachers and the asker itself made: (for training, held out)."""
        classes = sum(len(response.classes) for response in taught)
        everything = [self.fitting(response, classes) for response in (*taught, *self.own.responses())]
        seed = derived_seed(self._query.seed, "holdout")
        return split_responses(everything, self._settings.holdout_fraction, seed=seed)

    def _settings_for(self, taught: Sequence[Response]) -> LearningSettings:
        """Return the settings; those for samples unlike real data where a teacher's are."""
        if all(response.lifelike for response in taught):
            return self._settings
        return replace(self._settings, lifelike=False, lift=self._settings.vague_lift)
