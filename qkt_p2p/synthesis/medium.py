"""What a medium is: both halves of one way to teach with synthetic samples."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.privacy.ledger import Privacy
    from qkt_p2p.synthesis.prototypes import Surroundings
    from qkt_p2p.synthesis.release import StatisticsCache
    from qkt_p2p.types import ClassName, MediumName, ReportDone, TeachRequest
    from qkt_p2p.wire.tensors import SyntheticBatch


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a teacher answers from; `cache` keeps released statistics, a part aims at `chunk_bytes`.

    With `privacy` whatever is made of the data carries noise.
    """

    classifier: Classifier
    data: LabelledData
    model_version: int
    cache: StatisticsCache
    chunk_bytes: int
    privacy: Privacy | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an answer as it travels, and how many samples it holds or describes."""

    data: bytes
    samples: int


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the asker knows when it reads an answer.

    `shape` is that of one sample, `low` and `high` bound its numbers, and who sends any of a size beyond
    `furthest` is not honest; `seed` and `samples_per_class` are the request's. No more than `affordable`
    samples of a class are made, however many were asked for. `own` tells of the asker's own samples, of this
    shape. What takes long tells `report`, which may raise to end the work.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    samples_per_class: int
    affordable: int
    seed: int
    own: Surroundings
    furthest: float = inf
    report: ReportDone = lambda *_: None

    @property
    def count(self) -> int:
        """How many samples of a class to make."""
        return min(self.samples_per_class, self.affordable)


class Medium(Protocol):
    """A way to teach; `of_features` tells whether its samples are features behind the asker's stem.

    What a teacher answers depends on the request's seed where it is `seeded`.
    """

    @property
    def name(self) -> MediumName:
        """Name on the wire."""

    @property
    def of_features(self) -> bool:
        """Whether samples are features, not inputs."""

    @property
    def seeded(self) -> bool:
        """Whether the answer depends on the request's seed."""

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportDone
    ) -> list[Part]:
        """Return what teaches the classes of `mask`; the same request gives the same bytes.

        Raises PeerRefusedError where nothing may or can be made, ProtocolError where the request is unfit.
        """

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return the samples that all parts of one answer stand for, with targets over `classes`.

        An empty part did not come: where each is of one class, the batch is without that class. Raises
        ProtocolError where the parts are not what `answer` makes, PeerError where noise drowns what they say.
        """
