"""`renew` and `rotate`: a node's next certificate, for its key or for a new one."""

from typing import Annotated

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.join import membership_answer
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command

_AddressesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        help='Where the authority renews, "host:port"; may be repeated. By default as remembered.',
        show_default=False,
    ),
]


def renew(output: Output, home: HomeOption, address: _AddressesOption = None) -> Answer:
    """Renew the node's certificate at its authority; the key stays."""
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.enrollment import renew_home
    from qkt_node.home import open_home

    configure_logging("auto", "error")
    opened = open_home(home)
    return membership_answer(run(renew_home(opened, _checked(address))), opened.root)


def rotate(
    output: Output,
    home: HomeOption,
    address: _AddressesOption = None,
    by_files: Annotated[
        bool, typer.Option("--by-files", help="Only make the key and a request for the authority to sign.")
    ] = False,
) -> Answer:
    """Change the node's key, and with it its peer id; the old key is used until the new one is certified."""
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.enrollment import prepare_rotation, rotate_home
    from qkt_node.home import open_home

    configure_logging("auto", "error")
    opened = open_home(home)
    peer, request = prepare_rotation(opened)
    if by_files:
        return Answer(
            {"peer_id": peer, "request": str(request)},
            [
                f"made a key for the new peer id {peer}; the old one stays in use until that is certified",
                f"next, at the federation's authority: {command('ca', 'sign', request, '--home', 'CA_DIR')}",
                f"then: {command('join', '--home', opened.root, '--certificate', 'BUNDLE')}",
            ],
        )
    output.note(f"the new peer id is {peer}; the old key vouches for it")
    return membership_answer(run(rotate_home(opened, _checked(address))), opened.root)


def _checked(addresses: list[str] | None) -> tuple[str, ...]:
    from qkt_p2p.identity.tokens import check_addresses

    return check_addresses(tuple(addresses)) if addresses else ()
