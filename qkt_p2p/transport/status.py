"""The one table of errors <-> grpc status.

Towards a caller an error becomes a status; its code and fix travel in trailing metadata, so
that an owner's command line rebuilds the very error. From a peer, whose metadata proves
nothing, only the status counts, and of a busy peer for how long it is busy: within bounds
that this node sets, a lie costs the liar the asker and nobody anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

from qkt_p2p import errors
from qkt_p2p.limits import RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

Metadata = tuple[tuple[str, str | bytes], ...]

CODE_KEY: Final = "qkt-error-code"
FIX_KEY: Final = "qkt-error-fix-bin"
RETRY_KEY: Final = "qkt-retry-after-ms"

_MAX_DETAIL_BYTES: Final = 1000
"""Percent-encoded three bytes each; all of a call's trailing metadata must stay below 8 KiB."""

_MAX_DIGITS: Final = 9
"""Of a number of milliseconds: eleven days, and short enough to be read at no cost."""

_INTERNAL: Final = "internal error, see the log of this node"

STATUS_OF_ERROR: Final[dict[type[errors.QktError], grpc.StatusCode]] = {
    errors.QktError: grpc.StatusCode.INTERNAL,
    errors.UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotRunningError: grpc.StatusCode.UNAVAILABLE,
    errors.NotTrustedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.UnknownClassError: grpc.StatusCode.NOT_FOUND,
    errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.UpdateRefusedError: grpc.StatusCode.ABORTED,
    errors.BudgetSpentError: grpc.StatusCode.OUT_OF_RANGE,
    errors.WorkerDiedError: grpc.StatusCode.INTERNAL,
    errors.CancelledError: grpc.StatusCode.CANCELLED,
    errors.PeerError: grpc.StatusCode.UNKNOWN,
    errors.PeerUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.PeerRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PeerBusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
}

PEER_ERROR_OF_STATUS: Final[dict[grpc.StatusCode, type[errors.QktError]]] = {
    grpc.StatusCode.CANCELLED: errors.PeerUnavailableError,
    grpc.StatusCode.UNKNOWN: errors.PeerError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.PeerRefusedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.PeerUnavailableError,
    grpc.StatusCode.NOT_FOUND: errors.PeerRefusedError,
    grpc.StatusCode.ALREADY_EXISTS: errors.PeerRefusedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotTrustedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.PeerRefusedError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PeerRefusedError,
    grpc.StatusCode.ABORTED: errors.PeerRefusedError,
    grpc.StatusCode.OUT_OF_RANGE: errors.BudgetSpentError,
    grpc.StatusCode.UNIMPLEMENTED: errors.PeerRefusedError,
    grpc.StatusCode.INTERNAL: errors.PeerError,
    grpc.StatusCode.UNAVAILABLE: errors.PeerUnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.ProtocolError,
    grpc.StatusCode.UNAUTHENTICATED: errors.NotTrustedError,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return status, detail and trailing metadata that carry `error` to a caller.

    Of an error outside the tree a caller learns nothing: this node's log says all.
    """
    if not isinstance(error, errors.QktError):
        return grpc.StatusCode.INTERNAL, _INTERNAL, ()
    metadata: Metadata = ((CODE_KEY, error.code), (FIX_KEY, _cut(error.fix).encode()))
    if isinstance(error, errors.PeerBusyError):
        metadata = (*metadata, (RETRY_KEY, str(milliseconds_of(error))))
    return STATUS_OF_ERROR[type(error)], _cut(error.message), metadata


def milliseconds_of(error: Exception) -> int:
    """Return after how many milliseconds a call that failed may be repeated; 0 where nobody knows."""
    if not isinstance(error, errors.PeerBusyError):
        return 0
    return round(_bounded(error.retry_after) * 1000)


def milliseconds_in(trailing: Iterable[tuple[str, str | bytes]]) -> int:
    """Return the same from a peer's trailing metadata, 0 where they do not say it in so many digits."""
    said = dict(trailing).get(RETRY_KEY)
    if not isinstance(said, str) or not (said.isascii() and said.isdecimal()) or len(said) > _MAX_DIGITS:
        return 0
    return int(said)


def peer_error(status: grpc.StatusCode, detail: str, retry_after_milliseconds: int = 0) -> errors.QktError:
    """Return what a failed call to a peer means, one of PEER_FAILURES; only the status is believed.

    RESOURCE_EXHAUSTED alone is a refusal: grpc says it of messages that are too large, which repetition does
    not help. Only a peer that says when to come again is busy. The detail is a stranger's: what could move a
    terminal's cursor is taken out.
    """
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in _cut(detail))
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after_milliseconds > 0:
        return errors.PeerBusyError(
            shown or "it is busy", retry_after=_bounded(retry_after_milliseconds / 1000)
        )
    return PEER_ERROR_OF_STATUS.get(status, errors.PeerError)(shown or status.name)


def own_error(error: grpc.aio.AioRpcError) -> errors.QktError:
    """Rebuild the error of this owner's own daemon from its trailing metadata."""
    trailing: dict[str, str | bytes] = dict(error.trailing_metadata() or ())
    code = trailing.get(CODE_KEY)
    detail = error.details() or error.code().name
    if isinstance(code, str):
        return errors.error_from_code(code, detail, told_fix(error))
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return errors.NotRunningError("the daemon went away during the call", fix="qkt-node start")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineError("the daemon did not answer in time", fix="qkt-node status")
    return errors.QktError(f"the daemon failed: {detail}")


def told_fix(error: grpc.aio.AioRpcError) -> str:
    """Return the fix that a failed call came with, "" for none: for callers of whom they trust."""
    fix = dict(error.trailing_metadata() or ()).get(FIX_KEY, b"")
    return fix.decode(errors="replace") if isinstance(fix, bytes) else ""


def _bounded(seconds: float) -> float:
    shortest, longest = RETRY_AFTER_SECONDS
    return min(max(seconds, shortest), longest)


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:_MAX_DETAIL_BYTES].decode(errors="ignore")
