"""The teacher's side of a query: probe -> mask -> synthesize -> respond."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING

from qkt_p2p.distillation.responses import Response
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import CHUNK_BYTES, MAX_PROBES
from qkt_p2p.masking.evidence import class_evidence
from qkt_p2p.masking.masks import MASK_THRESHOLD, mask_of
from qkt_p2p.masking.probes import make_probes
from qkt_p2p.synthesis import Bank, make_batch, medium_of
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES
from qkt_p2p.types import MEDIA, Chunk, ChunkInfo, ClassEvidence, ProbeReport, TeachOffer
from qkt_p2p.wire.tensors import as_levels, encode_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.synthesis.bank import StatisticsCache
    from qkt_p2p.types import ClassName, ProbeRequest, TeachRequest
    from qkt_p2p.wire.tensors import SyntheticBatch


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """How a teacher answers; see docs/method.md.

    `max_samples_per_class` and `max_numbers`, the input elements of one response, bound its memory.
    """

    mask_threshold: float = MASK_THRESHOLD
    max_samples_per_class: int = 2000
    max_numbers: int = 64 * 1024 * 1024
    chunk_bytes: int = CHUNK_BYTES


class Teacher:
    """Answers probes and teaches what `classifier` knows and `data` holds.

    `cache` keeps released statistics between queries; a plain dict does.
    """

    def __init__(
        self,
        classifier: Classifier,
        data: LabelledData,
        *,
        model_version: int,
        settings: TeacherSettings,
        cache: StatisticsCache,
    ) -> None:
        self._classifier = classifier
        self._data = data
        self._model_version = model_version
        self._settings = settings
        self._cache = cache

    def probe(self, request: ProbeRequest) -> ProbeReport:
        """Return e[t, c] for the classes asked for (all where none are named) that the model has.

        Raises PeerRefusedError for a number of probes out of bounds.
        """
        if not 1 <= request.probes <= MAX_PROBES:
            raise PeerRefusedError(f"{request.probes} probes are not 1 to {MAX_PROBES}")
        shape = self._classifier.input_shape
        evidence = class_evidence(self._classifier, make_probes(shape, request.probes, seed=request.seed))
        known = mask_of(evidence, threshold=self._settings.mask_threshold)
        reported = [
            ClassEvidence(name, value, teachable=name in known and self.holds(name))
            for name, value in evidence.items()
            if not request.classes or name in request.classes
        ]
        return ProbeReport(self._model_version, shape, tuple(reported))

    def teach(self, request: TeachRequest) -> tuple[TeachOffer, list[Chunk]]:
        """Return what the response consists of, and those chunks of it that the asker does not hold.

        The same request to the same model version gives the same bytes. Raises PeerRefusedError with the
        reason where there is nothing to teach.
        """
        mask = self._mask(request)
        batch = self.synthesize(request.medium, mask, request.samples_per_class, seed=request.seed)
        return self._packed(request, batch)

    def synthesize(
        self, medium_name: str, mask: Sequence[ClassName], samples_per_class: int, *, seed: int
    ) -> SyntheticBatch:
        """Return synthetic inputs of the classes of `mask` with targets over them.

        A student calls this on itself, for batches of its own classes in the same style. Raises
        PeerRefusedError for an unknown medium, a size out of bounds or a class with too few samples.
        """
        medium = medium_of(medium_name)
        if medium is None:
            raise PeerRefusedError(f"the medium {medium_name[:40]!r} is not one of {', '.join(MEDIA)}")
        count = min(samples_per_class, self._settings.max_samples_per_class)
        numbers = count * len(mask) * prod(self._data.input_shape)
        if count < 1 or numbers > self._settings.max_numbers:
            raise PeerRefusedError(
                f"{samples_per_class} samples of each of {len(mask)} classes are out of bounds"
            )
        bank = Bank(medium, self._data, model_version=self._model_version, cache=self._cache)
        return make_batch(bank, self._classifier, mask, samples_per_class=count, seed=seed)

    def _mask(self, request: TeachRequest) -> list[ClassName]:
        """Return m[t]: the classes asked for that the model has learned and the data holds."""
        if request.input_shape != self._data.input_shape:
            raise PeerRefusedError(
                f"inputs of {request.input_shape} were asked for, this node has {self._data.input_shape}"
            )
        known = self._classifier.trained
        mask = [name for name in dict.fromkeys(request.classes) if name in known and self.holds(name)]
        if not mask:
            raise PeerRefusedError(f"this node can teach none of {', '.join(request.classes)[:200]}")
        return mask

    def holds(self, name: ClassName) -> bool:
        """Tell whether the data has enough samples of a class to release anything about it."""
        return self._data.counts.get(name, 0) >= MIN_RELEASE_SAMPLES

    def _packed(self, request: TeachRequest, batch: SyntheticBatch) -> tuple[TeachOffer, list[Chunk]]:
        sample_bytes = prod(self._data.input_shape) + 2 * len(batch.classes)
        step = max(1, self._settings.chunk_bytes // sample_bytes)
        chunks: list[Chunk] = []
        infos: list[ChunkInfo] = []
        for index, start in enumerate(range(0, len(batch), step)):
            part = slice(start, start + step)
            data = encode_batch(as_levels(batch.inputs[part]), batch.targets[part])
            infos.append(ChunkInfo(sha256(data).digest(), len(data), len(batch.inputs[part])))
            if infos[-1].digest not in request.held:
                chunks.append(Chunk(index, data))
        return TeachOffer(request.medium, self._model_version, batch.classes, tuple(infos)), chunks


def own_responses(
    teacher: Teacher, classes: Sequence[ClassName], *, medium: str, samples_per_class: int, seed: int
) -> list[Response]:
    """Return a student's synthetic batches of its own `classes`, so that style never tells the class.

    `teacher` is the student's own; classes of which it has too little data are left out.
    """
    mask = [name for name in classes if teacher.holds(name)]
    if not mask:
        return []
    return [Response.from_batch("own", teacher.synthesize(medium, mask, samples_per_class, seed=seed))]
