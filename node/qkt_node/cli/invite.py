"""`invite`: lets machines join a federation."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkt_node.cli.authority import (
    DEFAULT_LISTEN,
    MemberNameOption,
    PassphraseFileOption,
    RenewalListenOption,
    RolesOption,
    authority_in,
    open_registrar,
    parse_lifetime,
    renewal_listen_after,
    show_admitted,
    show_refused,
)
from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Format, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command
from qkt_p2p.errors import CancelledError, DeadlineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate

    from qkt_node.authority_service import AuthorityAddresses
    from qkt_p2p.identity.invitations import Invitation, Invitations
    from qkt_p2p.transport.enrollment_server import Admitted

AddressesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        help='Where others reach the enrolment port, "host:port"; may be repeated. By default this machine.',
        show_default=False,
    ),
]


def invite(
    output: Output,
    home: HomeOption,
    name: MemberNameOption = "",
    role: RolesOption = None,
    expires: Annotated[str, typer.Option(help="Time until the token expires, as 30m, 24h or 7d.")] = "24h",
    uses: Annotated[int, typer.Option(help="Machines that may join with the token.")] = 1,
    address: AddressesOption = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve until the token is used up or expires.")
    ] = False,
    listen: Annotated[
        str,
        typer.Option(
            help=f'Where machines join, "host:port"; by default as the last `ca serve`, or {DEFAULT_LISTEN}.',
            show_default=False,
        ),
    ] = "",
    renewal_listen: RenewalListenOption = "",
    passphrase_file: PassphraseFileOption = None,
) -> Answer:
    """Print one token with which a machine joins; the authority must serve (ca serve, or --serve here)."""
    from qkt_node.addresses import left_out
    from qkt_node.authority_service import reachable, remembered_listener
    from qkt_p2p.identity.authority import load_roots
    from qkt_p2p.identity.invitations import Invitations

    # Before an invitation is made: there may be no authority in this home.
    root = load_roots(authority_in(home))[0]
    invitations = Invitations(authority_in(home))
    listen = listen or remembered_listener(authority_in(home)) or DEFAULT_LISTEN
    lifetime = parse_lifetime(expires)

    def issue(addresses: tuple[str, ...]) -> tuple["Invitation", str]:
        made = invitations.issue(name=name, roles=role or (), lifetime=lifetime, uses=uses)
        return made, _token(root, made, addresses)

    if not serve:
        addresses = reachable(listen, announce=address or ())
        if not address and (unheard := left_out(listen)):
            output.note(f"warning: the token does not name {', '.join(unheard)}: --address names others")
        made, token = issue(addresses)
        return _answer(output, made, token, addresses)
    if output.format is Format.JSON:
        raise UsageError(
            "with --serve, --format json would tell the token when nobody can join with it any more",
            fix=command("invite", "--serve", "--format", "jsonl", "--home", home),
        )
    return _serve(
        output,
        home,
        issue=issue,
        invitations=invitations,
        address=address or [],
        listen=(listen, renewal_listen_after(listen, renewal_listen)),
        passphrase_file=passphrase_file,
    )


def _token(root: "Certificate", invitation: "Invitation", addresses: tuple[str, ...]) -> str:
    """Return the token of an invitation of the authority with this `root`; its key is not needed for it."""
    from qkt_p2p.identity.inspection import federation_of_root
    from qkt_p2p.identity.keys import fingerprint_of
    from qkt_p2p.identity.tokens import Token, encode_token

    return encode_token(
        Token(
            federation=federation_of_root(root),
            root=fingerprint_of(root.public_key()),
            invitation=invitation.id,
            secret=invitation.secret,
            expires=invitation.expires,
            addresses=addresses,
        )
    )


def _answer(output: Output, made: "Invitation", token: str, addresses: tuple[str, ...]) -> Answer:
    # On stdout, so that a script can take it.
    if output.for_people:
        output.line(token, {})
    return Answer(
        _data(made, token, addresses),
        [
            f"the token expires at {made.expires:%Y-%m-%d %H:%M} UTC; with it {_count(made.uses)} may join "
            f"at {', '.join(addresses)} (others: --address): pass it on as you would a password",
            "next, at the other machine: qkt-node join TOKEN --home DIR",
        ],
    )


def _data(made: "Invitation", token: str, addresses: tuple[str, ...]) -> dict[str, object]:
    return {
        "token": token,
        "expires": made.expires.isoformat(),
        "uses": made.uses,
        "name": made.name,
        "roles": list(made.roles),
        "addresses": list(addresses),
    }


def _serve(
    output: Output,
    home: Path,
    *,
    issue: "Callable[[tuple[str, ...]], tuple[Invitation, str]]",
    invitations: "Invitations",
    address: list[str],
    listen: tuple[str, str],
    passphrase_file: Path | None,
) -> Answer:
    """Serve until the invitation is used up, or has expired, or the owner ends it."""
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.authority_service import AuthorityService

    configure_logging("auto", "error")
    registrar = open_registrar(home, passphrase_file)
    issued: list[Invitation] = []
    told: dict[str, object] = {}

    def begin(addresses: "AuthorityAddresses") -> float:
        made, token = issue(addresses.enrollment)
        issued.append(made)
        told.update(_data(made, token, addresses.enrollment))
        output.line(token, {"event": "ready", **told})
        where = ", ".join(addresses.enrollment)
        output.note(f"serving at {where}; at the other machine: qkt-node join TOKEN")
        return (made.expires - datetime.now(UTC)).total_seconds()

    async def serve() -> None:
        def admitted(member: "Admitted") -> None:
            show_admitted(output, member)
            now = invitations.find(issued[0].id)
            if now is None or now.uses_left == 0:
                service.stop()

        service = AuthorityService(
            registrar,
            admitted=admitted,
            refused=lambda caller, reason: show_refused(output, caller, reason),
        )
        await service.run(*listen, announce=address, seconds=begin)

    run(serve())
    now = invitations.find(issued[0].id) or issued[0]
    return _result(now, {**told, "members": list(now.members)}, home)


def _result(now: "Invitation", data: dict[str, object], home: Path) -> Answer:
    """Return who joined; an error where serving ended before the invitation was used up."""
    joined = f"{len(now.members)} of {now.uses} machines joined"
    if not now.uses_left:
        return Answer(data, [joined])
    if datetime.now(UTC) >= now.expires:
        return Answer(data, error=DeadlineError(f"the token expired; {joined}"))
    return Answer(
        data,
        error=CancelledError(
            f"interrupted; {joined}, and the token holds until {now.expires:%Y-%m-%d %H:%M} UTC",
            fix=command("ca", "serve", "--home", home),
        ),
    )


def _count(uses: int) -> str:
    return "one machine" if uses == 1 else f"{uses} machines"
