"""Every error that a user or a peer can cause, and the exit code each ends the command line with.

QktError (1 failed)
|-- UsageError (2)            the command line asks for something that makes no sense
|-- ConfigError (3)           node.toml, the data, the model or the home is not usable
|-- NotRunningError (4)       no daemon answers on the home's control socket
|-- NotTrustedError (5)       a certificate, a policy or an owner says no
|-- UnknownClassError (6)     no live peer knows a class that was asked for
|-- DeadlineError (7)         time ran out
|-- UpdateRefusedError (8)    the validation gate kept the old model
|-- BudgetSpentError (9)      the teacher may release no more about a class
|-- WorkerDiedError (1)       the learning worker ended in the middle of an operation
|-- CancelledError (130)      the owner interrupted
`-- PeerError (1)             a peer did not do what the protocol says
    |-- PeerUnavailableError  it cannot be reached, or went away
    |-- PeerRefusedError      it answered that it will not
    |   `-- PeerBusyError     it will, later
    `-- ProtocolError         it sent something malformed, oversized or out of order
"""

from __future__ import annotations

from typing import Self


class QktError(Exception):
    """Base of the tree: `message` says what and where, `fix` the next command to type."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def told_as(self, message: str) -> Self:
        """Return the same error under another message."""
        return type(self)(message, fix=self.fix)

    def as_data(self) -> dict[str, str]:
        """Return the error as JSON has it; `error_from_code` takes these fields back."""
        return {"code": self.code, "message": self.message, "fix": self.fix}


class UsageError(QktError):
    """The command line asks for something that makes no sense."""

    code = "usage"
    exit_code = 2


class ConfigError(QktError):
    """The configuration, the data, the model or the home is not usable."""

    code = "config"
    exit_code = 3


class NotRunningError(QktError):
    """No daemon answers on the home's control socket."""

    code = "not-running"
    exit_code = 4


class NotTrustedError(QktError):
    """A certificate, a policy or an owner says no."""

    code = "not-trusted"
    exit_code = 5


class UnknownClassError(QktError):
    """No live peer knows a class that was asked for."""

    code = "unknown-class"
    exit_code = 6


class DeadlineError(QktError):
    """Time ran out."""

    code = "deadline"
    exit_code = 7


class UpdateRefusedError(QktError):
    """The validation gate kept the old model."""

    code = "refused"
    exit_code = 8


class BudgetSpentError(QktError):
    """The teacher may release no more about a class."""

    code = "budget"
    exit_code = 9


class WorkerDiedError(QktError):
    """The learning worker ended in the middle of an operation."""

    code = "worker-died"


class CancelledError(QktError):
    """The owner interrupted the work."""

    code = "cancelled"
    exit_code = 130


class PeerError(QktError):
    """A peer did not do what the protocol says."""

    code = "peer"


class PeerUnavailableError(PeerError):
    """The peer cannot be reached, or went away."""

    code = "peer-unavailable"


class PeerRefusedError(PeerError):
    """The peer answered that it will not."""

    code = "peer-refused"


class PeerBusyError(PeerRefusedError):
    """The peer has too much to do now; the same call may succeed after `retry_after` seconds."""

    code = "peer-busy"

    def __init__(self, message: str, *, fix: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, fix=fix)
        self.retry_after = retry_after

    def told_as(self, message: str) -> Self:
        """Return the same error under another message."""
        return type(self)(message, fix=self.fix, retry_after=self.retry_after)


class ProtocolError(PeerError):
    """The peer sent something malformed, oversized or out of order."""

    code = "protocol"


PEER_FAILURES = (PeerError, NotTrustedError, BudgetSpentError)
"""What a call to a peer can fail with: reason enough to go on without this peer."""


def error_classes() -> dict[str, type[QktError]]:
    """Map each error code to its class, over the whole tree."""
    found: dict[str, type[QktError]] = {}
    waiting = [QktError]
    while waiting:
        error = waiting.pop()
        found[error.code] = error
        waiting.extend(error.__subclasses__())
    return found


def error_from_code(code: str, message: str, fix: str = "") -> QktError:
    """Rebuild an error that crossed a process border; an unknown code becomes a plain QktError."""
    return error_classes().get(code, QktError)(message, fix=fix)
