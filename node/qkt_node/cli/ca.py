"""`ca ...`: a federation's authority."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkt_node.cli.authority import (
    DEFAULT_LISTEN,
    LifetimeOption,
    ListenOption,
    MemberNameOption,
    PassphraseFileOption,
    RenewalListenOption,
    RolesOption,
    authority_in,
    load_passphrase,
    open_registrar,
    renewal_listen_after,
    show_admitted,
    show_refused,
)
from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command

if TYPE_CHECKING:
    from qkt_node.authority_service import AuthorityAddresses


def ca_init(
    output: Output,
    home: HomeOption,
    federation: Annotated[
        str, typer.Option(help="Name of the federation: a-z, 0-9, '.', '-', '_'.", show_default=False)
    ],
    passphrase_file: PassphraseFileOption = None,
) -> Answer:
    """Found a federation: make its root certificate."""
    from qkt_p2p.identity.authority import create_authority, save_authority

    directory, passphrase = authority_in(home), load_passphrase(passphrase_file)
    authority = create_authority(federation)
    save_authority(authority, directory, passphrase=passphrase)
    data = {
        "federation": federation,
        "fingerprint": authority.fingerprint,
        "authority": str(directory),
        "encrypted": passphrase is not None,
    }
    unencrypted = (
        "warning: its key is not encrypted; for that, found it elsewhere with --passphrase-file FILE"
    )
    return Answer(
        data,
        [
            f"founded federation {federation}, its root is {authority.fingerprint}",
            *([] if passphrase else [unencrypted]),
            f"whoever holds {directory} decides who is a member: keep it off the network, and keep a copy",
            f"next: {command('invite', '--serve', '--home', home)}, "
            f"then at another machine: {command('join', 'TOKEN', '--home', 'DIR')}",
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
    name: MemberNameOption = "",
    role: RolesOption = None,
    lifetime: LifetimeOption = "90d",
    passphrase_file: PassphraseFileOption = None,
) -> Answer:
    """Make a node a member: sign its certificate request."""
    from qkt_p2p.identity.certificates import REQUEST_WANTED
    from qkt_p2p.identity.files import load_file, make_private_directory, save_file
    from qkt_p2p.identity.keys import short_fingerprint
    from qkt_p2p.types import short

    registrar = open_registrar(home, passphrase_file, lifetime)
    asked = load_file(request, fix=REQUEST_WANTED)
    issued = registrar.sign(asked, name=name, roles=role or ())
    bundle = out or authority_in(home) / "issued" / f"{issued.peer_id}.pem"
    if out is None:
        make_private_directory(bundle.parent)
    save_file(bundle, issued.bundle)
    return Answer(
        {
            "peer_id": issued.peer_id,
            "name": issued.name,
            "roles": list(issued.roles),
            "fingerprint": short_fingerprint(issued.peer_id),
            "federation": registrar.authority.federation,
            "federation_fingerprint": registrar.authority.fingerprint,
            "not_after": issued.not_after.isoformat(),
            "bundle": str(bundle),
        },
        [
            f"signed for {issued.name} (peer {short(issued.peer_id)}), until {issued.not_after:%Y-%m-%d}",
            f"compare with the node's owner: its key is {short_fingerprint(issued.peer_id)}",
            f"next, at the node, with a copy of {bundle}: qkt-node join --home DIR --certificate BUNDLE",
        ],
    )


def ca_serve(
    output: Output,
    home: HomeOption,
    listen: ListenOption = DEFAULT_LISTEN,
    renewal_listen: RenewalListenOption = "",
    lifetime: LifetimeOption = "90d",
    passphrase_file: PassphraseFileOption = None,
) -> Answer:
    """Let invited machines join, and members renew, until stopped; SIGTERM or Ctrl-C ends it."""
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.authority_service import AuthorityService, remember_listener

    # What people should see is told by notes; the log has what went wrong inside.
    configure_logging("auto", "error")
    registrar = open_registrar(home, passphrase_file, lifetime)

    def tell_ready(addresses: "AuthorityAddresses") -> None:
        # For tokens that `invite` makes meanwhile, or later.
        remember_listener(authority_in(home), listen, addresses)
        output.line(addresses.line(), {"event": "ready", **addresses.as_data()})

    async def serve() -> "AuthorityAddresses":
        service = AuthorityService(
            registrar,
            admitted=lambda admitted: show_admitted(output, admitted),
            refused=lambda address, reason: show_refused(output, address, reason),
        )
        return await service.run(listen, renewal_listen_after(listen, renewal_listen), seconds=tell_ready)

    return Answer(run(serve()).as_data(), ["stopped"])


def ca_add_root(
    output: Output,
    root: Annotated[Path, typer.Argument(help="authority.pem of the other authority.")],
    home: HomeOption,
) -> Answer:
    """Hand out another authority's root too, while one takes over from the other."""
    from qkt_p2p.identity.change_over import ROOT_WANTED, add_root
    from qkt_p2p.identity.files import load_file

    fingerprint = add_root(authority_in(home), load_file(root, fix=ROOT_WANTED))
    return Answer(
        {"added": fingerprint},
        [
            f"from now on members that join or renew here also trust root {fingerprint}",
            "restart a running `qkt-node ca serve`",
        ],
    )


def ca_drop_root(
    output: Output,
    fingerprint: Annotated[str, typer.Argument(help="Fingerprint of the other authority's root.")],
    home: HomeOption,
) -> Answer:
    """Hand out another authority's root no longer: the end of a change-over."""
    from qkt_p2p.identity.change_over import drop_root

    drop_root(authority_in(home), fingerprint)
    return Answer(
        {"dropped": fingerprint},
        [
            f"members that join or renew here no longer trust root {fingerprint}",
            "restart a running `qkt-node ca serve`",
        ],
    )
