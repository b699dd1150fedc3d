"""`policy check`: what this node lets its peers do, from its files alone."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command
from qkt_p2p.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qkt_node import policy_view
    from qkt_p2p.privacy.policy import Caller

_WORDS = {True: "yes", False: "no", None: "depends"}


def policy_check(
    output: Output,
    home: HomeOption,
    peer: Annotated[str, typer.Option(help="What the member with this peer id may do.")] = "",
    role: Annotated[str, typer.Option(help="What members with this role may do.")] = "",
) -> Answer:
    """Show which classes this node teaches, by which media, to whom, and what it refuses and why."""
    from qkt_node.config import load_config
    from qkt_node.home import open_home
    from qkt_node.policy_view import actions_of, classes_of, load_trust, made_of, media_of

    caller = _caller(peer, role)
    opened = open_home(home)
    config, trust = load_config(opened.config_file), load_trust(opened)
    actions = actions_of(config.policy, trust, caller)
    media, classes = media_of(config, actions), list(classes_of(opened, config))
    data = {
        "federation": trust.federation,
        "revoked": sorted(trust.revoked),
        "peer": peer,
        "role": role,
        "actions": _data("action", actions),
        "media": [{**each, "made_of": made_of(config, each["medium"])} for each in _data("medium", media)],
        "classes": _data("class", classes),
    }
    rows = [[each.what, _WORDS[each.allowed], each.why, made_of(config, each.what)] for each in media]
    return Answer(
        data,
        [
            f"{'members' if caller is None else role or peer} of {trust.federation or 'no federation'}, as "
            f"{opened.config_file} says; a running node acts on what it said at its start",
            _table("action", "may", actions),
            Table(["medium", "taught", "why", "made of"], rows, spare=("made of",)),
            _table("class", "taught", classes)
            if classes
            else f"no class is taught before the first start: {command('start', '--home', opened.root)}",
        ],
    )


def _caller(peer: str, role: str) -> "Caller | None":
    """Return whom the options name; raises UsageError where they name two, or nobody that can be."""
    from qkt_p2p.privacy.policy import Caller
    from qkt_p2p.types import PeerId, parse_peer_id, parse_role

    if peer and role:
        raise UsageError("give --peer or --role: one of them", fix="qkt-node policy check --role ROLE")
    if peer:
        return Caller(parse_peer_id(peer))
    return Caller(PeerId(""), roles=(parse_role(role),)) if role else None


def _data(name: str, answers: "Iterable[policy_view.Answer]") -> list[dict[str, Any]]:
    return [{name: each.what, "allowed": each.allowed, "why": each.why} for each in answers]


def _table(name: str, verdict: str, answers: "Iterable[policy_view.Answer]") -> Table:
    rows = [[each.what, _WORDS[each.allowed], each.why] for each in answers]
    return Table([name, verdict, "why"], rows)
