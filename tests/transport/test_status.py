"""Errors on their way to a caller: the one table, both ways, and what it keeps to itself."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qkt_p2p.errors import (
    PEER_FAILURES,
    BudgetSpentError,
    CancelledError,
    ConfigError,
    DeadlineError,
    NotRunningError,
    NotTrustedError,
    PeerBusyError,
    PeerError,
    PeerRefusedError,
    PeerUnavailableError,
    ProtocolError,
    QktError,
    UnknownClassError,
    UpdateRefusedError,
    UsageError,
    WorkerDiedError,
    error_classes,
)
from qkt_p2p.transport.status import (
    PEER_ERROR_OF_STATUS,
    RETRY_KEY,
    STATUS_OF_ERROR,
    milliseconds_in,
    own_error,
    peer_error,
    status_of,
)
from tests.transport.members import ASKER_NODE, TEACH, Clients, Teacher

ARRIVES_AS: dict[type[QktError], type[QktError]] = {
    QktError: PeerError,
    UsageError: PeerRefusedError,
    ConfigError: PeerRefusedError,
    NotRunningError: PeerUnavailableError,
    NotTrustedError: NotTrustedError,
    UnknownClassError: PeerRefusedError,
    DeadlineError: PeerUnavailableError,
    UpdateRefusedError: PeerRefusedError,
    BudgetSpentError: BudgetSpentError,
    WorkerDiedError: PeerError,
    CancelledError: PeerUnavailableError,
    PeerError: PeerError,
    PeerUnavailableError: PeerUnavailableError,
    PeerRefusedError: PeerRefusedError,
    PeerBusyError: PeerBusyError,
    ProtocolError: PeerRefusedError,
}
"""What a peer's error means to its caller: a complaint about the caller's own message is a refusal."""

FACE = "\N{GRINNING FACE}"

every_error = pytest.mark.parametrize("kind", ARRIVES_AS, ids=lambda kind: kind.code)


def test_every_error_has_a_status() -> None:
    """The table is total: no error of the tree crosses as something unforeseen."""
    assert set(STATUS_OF_ERROR) == set(error_classes().values()) == set(ARRIVES_AS)


def test_every_status_is_an_error() -> None:
    """The table is total the other way round too, and all that it holds is caught as a peer's failure."""
    assert set(PEER_ERROR_OF_STATUS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert all(issubclass(kind, PEER_FAILURES) for kind in PEER_ERROR_OF_STATUS.values())


@every_error
async def test_an_error_crosses_as_what_it_means_to_the_caller(
    connect: Clients, teacher: Teacher, kind: type[QktError]
) -> None:
    """Every class of the tree arrives as the right kind, with its message and without the fix."""
    teacher.failure = kind("it is so", fix="format the teacher's disk")
    client = connect()
    with pytest.raises(ARRIVES_AS[kind], match=r": it is so$") as caught:
        await client.hello(ASKER_NODE)
    assert (type(caught.value), caught.value.fix) == (ARRIVES_AS[kind], "")


@every_error
async def test_an_error_ends_a_stream_as_what_it_means(
    connect: Clients, teacher: Teacher, kind: type[QktError]
) -> None:
    """A response that fails after its first part fails like any other call."""
    teacher.failure = kind("it is so")
    parts = connect().teach(TEACH)
    for _ in teacher.response:
        await anext(parts)
    with pytest.raises(ARRIVES_AS[kind], match=r": it is so$"):
        await anext(parts)


@pytest.mark.parametrize(
    ("said", "arrives"), [(2.5, 2.5), (0.0, 0.1), (-3.0, 0.1), (0.0004, 0.1), (1e9, 60.0)]
)
async def test_a_busy_peer_says_when_to_come_again(
    connect: Clients, teacher: Teacher, said: float, arrives: float
) -> None:
    """How long it will be busy crosses on every line, of calls and streams, within bounds."""
    teacher.failure = PeerBusyError("later", retry_after=said)
    teacher.response = ()
    client = connect()
    for call in (client.hello(ASKER_NODE), anext(client.teach(TEACH))):
        with pytest.raises(PeerBusyError, match=r": later$") as caught:
            await call
        assert caught.value.retry_after == arrives


@given(st.integers(1, 2**32 - 1))
def test_how_long_a_peer_is_busy_is_bounded_by_who_hears_it(milliseconds: int) -> None:
    """A stranger can neither make this node come again at once nor keep it waiting for ever."""
    error = peer_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "", milliseconds)
    assert isinstance(error, PeerBusyError)
    assert 0.1 <= error.retry_after <= 60


@given(st.text() | st.binary() | st.integers(10**9).map(str) | st.just("-1"))
def test_only_plain_digits_say_when_to_come_again(said: str | bytes) -> None:
    """Whatever else stands there is as good as nothing."""
    assume(not (isinstance(said, str) and said.isascii() and said.isdecimal() and len(said) < 10))
    assert milliseconds_in([("other", "5"), (RETRY_KEY, said)]) == 0


def test_nothing_left_is_a_refusal_where_nobody_says_when_there_will_be() -> None:
    """grpc itself says so of a message that is too large: repeating it would never end."""
    error = peer_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max (5 vs. 4)")
    assert type(error) is PeerRefusedError
    assert type(peer_error(grpc.StatusCode.UNAVAILABLE, "", 5)) is PeerUnavailableError


@pytest.mark.parametrize("failure", [ValueError("/home/alice/secret"), ZeroDivisionError(), TimeoutError()])
async def test_an_unforeseen_exception_leaks_nothing(
    connect: Clients, teacher: Teacher, failure: Exception
) -> None:
    """The caller is told where to look, and nothing about the inside of the node."""
    teacher.failure = failure
    teacher.response = ()
    client = connect()
    for call in (client.hello(ASKER_NODE), anext(client.teach(TEACH))):
        with pytest.raises(PeerError, match=r": internal error, see the log of this node$") as caught:
            await call
        assert type(caught.value) is PeerError


@every_error
def test_an_owner_gets_the_very_error_of_the_daemon(kind: type[QktError]) -> None:
    """On the control socket class, message and fix survive."""
    error = own_error(failed(*status_of(kind("why", fix="do that \N{WHITE SMILING FACE}"))))
    assert (type(error), error.message, error.fix) == (kind, "why", "do that \N{WHITE SMILING FACE}")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, NotRunningError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineError),
        (grpc.StatusCode.UNKNOWN, QktError),
    ],
)
def test_an_owner_is_told_of_a_daemon_that_could_not_answer(
    status: grpc.StatusCode, kind: type[QktError]
) -> None:
    """Without the daemon's own word the status decides."""
    assert type(own_error(failed(status, "", ()))) is kind


def failed(
    status: grpc.StatusCode, detail: str, metadata: Sequence[tuple[str, str | bytes]]
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=detail)


@given(st.text(), st.text(st.characters(categories=["Cs", "Lo"])))
def test_any_text_can_be_a_message(message: str, fix: str) -> None:
    """What an error says never makes it fail to be said, and stays below 8 KiB of metadata."""
    _, detail, metadata = status_of(PeerRefusedError(message * 40, fix=fix * 40))
    assert len(detail.encode()) <= 1000
    assert all(len(value) <= 1000 for _, value in metadata)


async def test_a_long_message_arrives_cut(connect: Clients, teacher: Teacher) -> None:
    """A message that percent-encoding makes long does not lose the error."""
    teacher.failure = PeerRefusedError(FACE * 5000, fix=FACE * 5000)
    with pytest.raises(PeerRefusedError, match=rf"{FACE}{{250}}$"):
        await connect().hello(ASKER_NODE)


async def test_a_peer_cannot_write_to_the_terminal(connect: Clients, teacher: Teacher) -> None:
    """Control characters of a stranger's message are taken out before anybody prints it."""
    teacher.failure = PeerRefusedError("no\x1b[2J\r\nerror: run qkt-node revoke\x07")
    with pytest.raises(PeerRefusedError) as caught:
        await connect().hello(ASKER_NODE)
    assert caught.value.message.isprintable()


def test_a_status_without_a_message_is_named() -> None:
    """A proxy in between may tell no more than a code."""
    assert peer_error(grpc.StatusCode.UNAVAILABLE, "").message == "UNAVAILABLE"
    assert type(peer_error(grpc.StatusCode.OK, "")) is PeerError
