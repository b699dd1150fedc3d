"""`ca init` and `ca sign`: a federation's authority."""

from pathlib import Path
from typing import Annotated

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import short

_PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        envvar="QKT_PASSPHRASE_FILE",
        help="File whose first line is the passphrase of the authority's key.",
        show_default=False,
    ),
]


def ca_init(
    output: Output,
    home: HomeOption,
    federation: Annotated[
        str, typer.Option(help="Name of the federation: a-z, 0-9, '.', '-', '_'.", show_default=False)
    ],
    passphrase_file: _PassphraseFile = None,
) -> Answer:
    """Found a federation: make its root certificate."""
    from qkt_node.home import Home
    from qkt_p2p.identity.authority import create_authority, save_authority

    directory = Home(home.absolute()).authority
    authority = create_authority(federation)
    save_authority(authority, directory, passphrase=_load_passphrase(passphrase_file))
    return Answer(
        {"federation": federation, "fingerprint": authority.fingerprint, "authority": str(directory)},
        [
            f"founded federation {federation}, its root is {authority.fingerprint}",
            f"whoever holds {directory} decides who is a member: keep it off the network, and keep a copy",
        ],
    )


def ca_sign(
    output: Output,
    request: Annotated[Path, typer.Argument(help="request.pem of the node's identity directory.")],
    home: HomeOption,
    out: Annotated[
        Path | None,
        typer.Option(help="Bundle to write; by default in the authority's directory.", show_default=False),
    ] = None,
    passphrase_file: _PassphraseFile = None,
) -> Answer:
    """Make a node a member: sign its certificate request."""
    from qkt_node.home import Home
    from qkt_p2p.identity.authority import load_authority, sign_request
    from qkt_p2p.identity.files import load_file, make_private_directory, save_file

    directory = Home(home.absolute()).authority
    authority = load_authority(directory, passphrase=_load_passphrase(passphrase_file))
    issued = sign_request(authority, load_file(request, fix="give the identity/request.pem of a node's home"))
    bundle = out or directory / "issued" / f"{issued.peer_id}.pem"
    if out is None:
        make_private_directory(bundle.parent)
    save_file(bundle, issued.bundle)
    return Answer(
        {
            "peer_id": issued.peer_id,
            "federation": authority.federation,
            "federation_fingerprint": authority.fingerprint,
            "not_after": issued.not_after.isoformat(),
            "bundle": str(bundle),
        },
        [
            f"signed for peer {short(issued.peer_id)}, until {issued.not_after:%Y-%m-%d}",
            f"next, at the node, with a copy of {bundle}: qkt-node join --home DIR --certificate BUNDLE",
        ],
    )


def _load_passphrase(path: Path | None) -> bytes | None:
    """Return the first line of the file, without its end; raises ConfigError where that is empty."""
    from qkt_p2p.identity.files import load_file

    if path is None:
        return None
    first, _, _ = load_file(path).partition(b"\n")
    if not first.rstrip(b"\r"):
        raise ConfigError(f"{path} begins with an empty line where the passphrase should be")
    return first.rstrip(b"\r")
