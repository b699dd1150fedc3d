"""What the verbs of an authority share: its options, its key, and how it tells what it does."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from qkt_node.cli.output import Output
from qkt_node.cli.query import parse_duration
from qkt_p2p.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from qkt_p2p.identity.registrar import Registrar
    from qkt_p2p.transport.enrollment_server import Admitted

DEFAULT_LISTEN: Final = "0.0.0.0:7448"
"""Next to the port on which nodes listen; members renew on the port after it."""

PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        envvar="QKT_PASSPHRASE_FILE",
        help="File whose first line is the passphrase of the authority's key.",
        show_default=False,
    ),
]
MemberNameOption = Annotated[str, typer.Option(help='Name of the member; by default "peer" and its id.')]
RolesOption = Annotated[
    list[str] | None,
    typer.Option("--role", help="Role of the member, for policies; may be repeated.", show_default=False),
]
LifetimeOption = Annotated[str, typer.Option(help="Validity of a member's certificate, as 24h or 90d.")]
ListenOption = Annotated[str, typer.Option(help='Where machines join, "host:port".')]
RenewalListenOption = Annotated[
    str,
    typer.Option(
        help='Where members renew, "host:port"; by default the port after --listen.', show_default=False
    ),
]


def authority_in(home: Path) -> Path:
    """Return where a home keeps its authority; nothing need be there.

    Raises NotTrustedError where the home is another user's.
    """
    from qkt_node.home import Home, require_access

    require_access(home)
    return Home(home.absolute()).authority


def open_registrar(home: Path, passphrase_file: Path | None, lifetime: str = "90d") -> "Registrar":
    """Return the authority in a home, ready to sign."""
    from qkt_p2p.identity.authority import load_authority
    from qkt_p2p.identity.registrar import Registrar

    folder = authority_in(home)
    authority = load_authority(folder, passphrase=load_passphrase(passphrase_file))
    return Registrar(authority, folder, lifetime=parse_lifetime(lifetime))


def load_passphrase(path: Path | None) -> bytes | None:
    """Return the first line of the file, without its end; raises ConfigError where that is empty."""
    from qkt_p2p.identity.files import load_file

    if path is None:
        return None
    first, _, _ = load_file(path).partition(b"\n")
    if not first.rstrip(b"\r"):
        raise ConfigError(f"{path} begins with an empty line where the passphrase should be")
    return first.rstrip(b"\r")


def parse_lifetime(text: str) -> timedelta:
    """Return "24h" or "90d" as a duration of at least a minute and at most ten years; raises UsageError."""
    seconds = parse_duration(text)
    if not 60 <= seconds <= 3650 * 86400:
        raise UsageError(f"{text[:40]!r} is no usable time", fix="give a minute to ten years, as 24h or 90d")
    return timedelta(seconds=seconds)


def renewal_listen_after(listen: str, renewal_listen: str) -> str:
    """Return where members renew: as said, or on the port after the one where machines join."""
    host, _, port = listen.rpartition(":")
    if renewal_listen or not port.isdecimal():
        return renewal_listen or listen
    return f"{host}:{int(port) + 1 if int(port) else 0}"


def show_admitted(output: Output, admitted: "Admitted") -> None:
    """Tell of a certificate that was handed out, with what the owner can compare."""
    from qkt_p2p.types import short

    how = "joined" if admitted.invitation else "renewed"
    output.note(
        f"{how}: {admitted.name} (peer {short(admitted.peer)}) from {admitted.address}, "
        f"its key is {admitted.fingerprint}"
    )
    output.event(
        {
            "event": how,
            "peer": admitted.peer,
            "name": admitted.name,
            "roles": list(admitted.roles),
            "address": admitted.address,
            "fingerprint": admitted.fingerprint,
        }
    )


def show_refused(output: Output, address: str, reason: str) -> None:
    """Tell why somebody got no certificate."""
    output.note(f"refused {address}: {reason}")
    output.event({"event": "refused", "address": address, "reason": reason})
