"""A stem that a stranger sent, run within limits of memory and time, and without torch."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime
import structlog

from qkt_p2p.errors import PeerRefusedError, ProtocolError
from qkt_p2p.limits import STEM_SECONDS
from qkt_p2p.synthesis.stem_graph import StemGraph, checked_graph, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from qkt_p2p.types import ReportDone, Shape

log = structlog.get_logger(__name__)

_THREADS: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Stem:
    """A checked graph, ready to run; `digest` is the SHA-256 of the bytes it came in.

    One that takes samples `alone` makes of each what it would without all others, whatever its sender built,
    and keeps what is not finite: where there is a privacy budget, neither may tell of a single sample.
    """

    digest: str
    input_shape: Shape
    feature_shape: tuple[int, ...]
    alone: bool
    _graph: StemGraph
    _session: onnxruntime.InferenceSession

    @classmethod
    def parse(cls, data: bytes, *, input_shape: Shape, alone: bool = False) -> Stem:
        """Return the stem that `data` holds; raises what `checked_graph` does."""
        graph = checked_graph(data, input_shape=input_shape, alone=alone)
        digest = hashlib.sha256(data).hexdigest()
        return cls(digest, input_shape, graph.feature_shape, alone, graph, _session(graph))

    def features(
        self,
        inputs: npt.NDArray[np.float32],
        *,
        adapt: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] = lambda part: part,
        seconds: float = STEM_SECONDS,
        report: ReportDone = lambda *_: None,
    ) -> npt.NDArray[np.float32]:
        """Return features [n, *feature_shape] of inputs [n, C, H, W].

        `adapt` brings them to the stem's size, batch by batch, as they may grow by far.

        Raises PeerRefusedError after `seconds`, ProtocolError where the graph fails, or its features are not
        finite and samples not taken alone, and what `report` raises, which is told before each batch.
        """
        features = np.empty((len(inputs), *self.feature_shape), np.float32)
        deadline = time.monotonic() + seconds
        options = onnxruntime.RunOptions()
        timer = threading.Timer(seconds, setattr, (options, "terminate", True))
        timer.start()
        try:
            for start in range(0, len(inputs), self._graph.batch):
                report(start, len(inputs), "running the stem")
                part = adapt(inputs[start : start + self._graph.batch])
                features[start : start + self._graph.batch] = self._run(part, options, deadline)[: len(part)]
        finally:
            timer.cancel()
        return features

    def _run(
        self, part: npt.NDArray[np.float32], options: onnxruntime.RunOptions, deadline: float
    ) -> npt.NDArray[np.float32]:
        """Return features of one batch; a last one that is smaller is filled up with zeros."""
        late = PeerRefusedError("the stem takes too long on this node's data")
        if time.monotonic() >= deadline:
            raise late
        full = np.zeros((self._graph.batch, *self.input_shape), np.float32)
        full[: len(part)] = part
        try:
            (features,) = self._session.run(None, {self._graph.input_name: full}, options)
        except Exception as error:
            if time.monotonic() >= deadline:
                raise late from error
            # The library may tell numbers of the private data, so its words stay in this node's log.
            log.warning("stem_failed", error=repr(error)[:300])
            raise ProtocolError("the stem cannot be run on this node's data") from error
        if features.shape != (self._graph.batch, *self.feature_shape) or features.dtype != np.float32:
            raise ProtocolError(f"the stem's features are {features.dtype} {features.shape}")
        if not self.alone and not np.isfinite(features).all():
            raise ProtocolError("the stem's features are not finite")
        checked: npt.NDArray[np.float32] = features
        return checked


def _session(graph: StemGraph) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    # Its errors have no common base but Exception.
    except Exception as error:
        raise ProtocolError(f"the stem cannot be loaded: {reason_of(error)}") from error
