"""The teacher's side of a query: probe -> mask -> answer in a medium."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import BudgetSpentError, PeerRefusedError
from qkt_p2p.limits import CHUNK_BYTES, MAX_PROBES
from qkt_p2p.masking.evidence import class_evidence
from qkt_p2p.masking.probes import Probes
from qkt_p2p.synthesis import Holdings, medium_of
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES
from qkt_p2p.types import MEDIA, RECIPE_MEDIA, Chunk, ChunkInfo, ClassEvidence, ProbeReport, TeachOffer
from qkt_p2p.wire.encodings import encode_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.privacy.ledger import Privacy
    from qkt_p2p.synthesis import Part
    from qkt_p2p.synthesis.release import StatisticsCache
    from qkt_p2p.types import ClassName, ProbeRequest, ReportDone, TeachRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """How large a response may be: `max_samples` bounds its memory, chunks aim at `chunk_bytes`."""

    max_samples: int = 100_000
    chunk_bytes: int = CHUNK_BYTES


class Teacher:
    """Answers probes and teaches what `classifier` knows and `data` holds.

    `cache` keeps released statistics between queries; a plain dict does. With `privacy` it teaches by what
    carries noise alone, until the budget is spent.
    """

    def __init__(
        self,
        classifier: Classifier,
        data: LabelledData,
        *,
        model_version: int,
        settings: TeacherSettings,
        cache: StatisticsCache,
        privacy: Privacy | None = None,
    ) -> None:
        self._classifier = classifier
        self._data = data
        self._model_version = model_version
        self._settings = settings
        self._cache = cache
        self._privacy = privacy

    def probe(self, request: ProbeRequest, report: ReportDone = lambda *_: None) -> ProbeReport:
        """Return e[t, c] for the classes asked for (all where none are named) that the model has.

        Raises PeerRefusedError for a number of probes out of bounds, and what `report` raises.
        """
        if not 1 <= request.probes <= MAX_PROBES:
            raise PeerRefusedError(f"{request.probes} probes are not 1 to {MAX_PROBES}")
        shape = self._classifier.input_shape
        evidence = class_evidence(self._classifier, Probes(shape, request.probes, seed=request.seed), report)
        reported = [
            ClassEvidence(name, value, teachable=self._can_teach(name))
            for name, value in evidence.items()
            if not request.classes or name in request.classes
        ]
        return ProbeReport(self._model_version, shape, tuple(reported), self._media)

    def teach(
        self, request: TeachRequest, report: ReportDone = lambda *_: None
    ) -> tuple[TeachOffer, list[Chunk]]:
        """Return what the response consists of, and those chunks of it that the asker does not hold.

        The same request to the same model version gives the same bytes. Raises PeerRefusedError with the
        reason where there is nothing to teach, BudgetSpentError where nothing more may be released,
        ProtocolError where the request is not usable, and what `report` raises.
        """
        medium = medium_of(request.medium)
        if medium is None:
            raise PeerRefusedError(f"the medium {request.medium[:40]!r} is not one of {', '.join(MEDIA)}")
        mask = self._mask(request)
        if not 1 <= request.samples_per_class <= self._settings.max_samples // len(mask):
            raise PeerRefusedError(
                f"{request.samples_per_class} samples of each of {len(mask)} classes are out of bounds"
            )
        if request.medium not in self._media:
            raise PeerRefusedError(f"the medium {request.medium} cannot carry the noise that this node adds")
        holdings = Holdings(
            self._classifier,
            self._data,
            self._model_version,
            self._cache,
            self._settings.chunk_bytes,
            self._privacy,
        )
        if self._privacy is None:
            parts = medium.answer(holdings, request, mask, report)
            return _packed(request, mask, self._model_version, parts, report)
        mask, parts = _affordable(partial(medium.answer, holdings, request), mask, report)
        offer, chunks = _packed(request, mask, self._model_version, parts, report)
        budget = self._privacy.budget
        return replace(offer, epsilon=budget.release_epsilon, delta=budget.delta), chunks

    @property
    def _media(self) -> tuple[str, ...]:
        """Those in which it teaches: with privacy, those that can carry noise."""
        return MEDIA if self._privacy is None else RECIPE_MEDIA

    def _mask(self, request: TeachRequest) -> list[ClassName]:
        """Return m[t]: the classes asked for that the model has learned and the data holds."""
        mask = [name for name in dict.fromkeys(request.classes) if self._can_teach(name)]
        if not mask:
            raise PeerRefusedError(f"this node can teach none of {', '.join(request.classes)[:200]}")
        return mask

    def _can_teach(self, name: ClassName) -> bool:
        """Tell what this node knows of itself; whether its evidence suffices, the asker decides."""
        return name in self._classifier.trained and self.holds(name)

    def holds(self, name: ClassName) -> bool:
        """Tell whether the data has enough samples of a class to release anything about it."""
        return self._data.counts.get(name, 0) >= MIN_RELEASE_SAMPLES


def _affordable(
    answer: Callable[[Sequence[ClassName], ReportDone], list[Part]],
    mask: Sequence[ClassName],
    report: ReportDone,
) -> tuple[list[ClassName], list[Part]]:
    """Return the classes of which something was or may be released, and a part for each.

    Raises BudgetSpentError, naming all classes, where that is none.
    """
    parts: dict[ClassName, Part] = {}
    for name in mask:
        try:
            (parts[name],) = answer([name], report)
        except BudgetSpentError as error:
            log.warning("budget_spent", reason=error.message)
    if not parts:
        raise BudgetSpentError(f"this node's privacy budget of {', '.join(mask)[:200]} is spent")
    return list(parts), list(parts.values())


def _packed(
    request: TeachRequest,
    mask: Sequence[ClassName],
    model_version: int,
    parts: Sequence[Part],
    report: ReportDone,
) -> tuple[TeachOffer, list[Chunk]]:
    encoding, travelling = encode_chunks([part.data for part in parts], request.encodings, report)
    infos = tuple(
        ChunkInfo(
            digest=chunk_digest(data),
            size=len(data),
            samples=part.samples,
            plain_size=len(part.data) if len(data) < len(part.data) else 0,
        )
        for data, part in zip(travelling, parts, strict=True)
    )
    chunks = [
        Chunk(index, data)
        for index, (data, info) in enumerate(zip(travelling, infos, strict=True))
        if info.digest not in request.held
    ]
    return TeachOffer(request.medium, model_version, tuple(mask), infos, encoding), chunks
