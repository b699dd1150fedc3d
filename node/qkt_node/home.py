"""A node's home: the one directory in which a node writes anything."""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkt_p2p.commands import PROGRAM, command
from qkt_p2p.errors import ConfigError, NotTrustedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG_FILE: Final = "node.toml"

MAX_SOCKET_PATH_BYTES: Final = 107
"""Linux keeps a unix socket's path in 108 bytes, the last of them zero (unix(7))."""


@dataclass(frozen=True, slots=True)
class Home:
    """The paths within a home; making one touches nothing."""

    root: Path

    @property
    def config_file(self) -> Path:
        """What the owner sets."""
        return self.root / CONFIG_FILE

    @property
    def identity(self) -> Path:
        """Key, request, certificate and roots, for `qkt_p2p.identity.trust`; mode 0700."""
        return self.root / "identity"

    @property
    def authority(self) -> Path:
        """Root and key of a federation that was founded here; missing in most homes."""
        return self.root / "authority"

    @property
    def database(self) -> Path:
        """Peers, queries, batches and model versions."""
        return self.root / "state.sqlite"

    @property
    def models(self) -> Path:
        """One safetensors file for each model version."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Reports of queries, JSON and HTML."""
        return self.root / "reports"

    @property
    def scratch(self) -> Path:
        """Where the worker's libraries put temporary files; emptied at every start."""
        return self.root / "tmp"

    @property
    def control_socket(self) -> Path:
        """Where the daemon hears its owner; mode 0600."""
        return self.root / "control.sock"

    @property
    def lock_file(self) -> Path:
        """Held by the running daemon, whose process id it contains."""
        return self.root / "lock"


def open_home(path: Path) -> Home:
    """Return the home at `path`; raises ConfigError where none was made or its path is too long.

    And NotTrustedError where it is another user's.
    """
    home = home_at(path)
    if not home.config_file.is_file():
        raise ConfigError(f"{home.root} is no home of a node", fix=command("init", "--home", home.root))
    return home


@contextmanager
def lock_home(home: Home) -> Iterator[None]:
    """Hold the home for this process until the block ends; raises ConfigError where another holds it.

    The kernel lets go of the lock when the process ends, however it ends; the file stays.
    """
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {home.lock_file}: {error.strerror}") from error
    try:
        _take(descriptor, home)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_of(home: Home) -> int | None:
    """Return the process id of the daemon that holds the home, None where none seems to; for messages.

    Raises NotTrustedError where another user holds it.
    """
    require_access(home.lock_file)
    try:
        # The lock itself is not tried: that could take it from a daemon that starts at this moment.
        process_id = int(home.lock_file.read_text(encoding="ascii"))
        # Whoever may not be signalled is there.
        with suppress(PermissionError):
            os.kill(process_id, 0)
    except (OSError, ValueError):
        return None
    return process_id


def _take(descriptor: int, home: Home) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        who = f"the daemon with process id {holder}" if holder.isdecimal() else "another process"
        raise ConfigError(
            f"the home {home.root} is held by {who}", fix=command("status", "--home", home.root)
        ) from error


def home_at(path: Path, *, option: str = "--home") -> Home:
    """Return the home that may be made at `path`; raises ConfigError where its path is too long.

    And NotTrustedError where another user made one there. `option` is what the owner named the path by.
    """
    home = Home(path.absolute())
    require_access(home.root)
    length = len(os.fsencode(home.control_socket))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{home.control_socket} has {length} bytes; "
            f"the path of a unix socket may have {MAX_SOCKET_PATH_BYTES}",
            fix=f"choose a {option} with a shorter path",
        )
    return home


def require_access(path: Path) -> None:
    """Raise NotTrustedError where `path` is another user's, who lets this one not use it.

    What else stands in the way is told by whoever opens the path, as is that there is none.
    """
    owner = _owner_of(path)
    # Access counts, not who the owner is: root may do all, and a volume may be shared with a group.
    if owner is None or owner == os.geteuid() or os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return
    user = _user_name(owner)
    raise NotTrustedError(
        f"{path} belongs to the user {user}, and no other user may use it",
        fix=f"run the same as that user: sudo -u {shlex.quote(user)} {PROGRAM} ...",
    )


def _owner_of(path: Path) -> int | None:
    """Return the user id of the owner of `path`, or of the folder that hides it; None where there is none."""
    try:
        return path.stat().st_uid
    except PermissionError:
        return _owner_of(path.parent)
    except OSError:
        return None


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        # As sudo takes a user who has no name here.
        return f"#{user_id}"
