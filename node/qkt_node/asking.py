"""What the owner asks for -> the query that the node runs, or the one that it ran for the same token."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING

from qkt_p2p.errors import UsageError
from qkt_p2p.limits import MAX_QUERY_CLASSES, MAX_QUERY_SECONDS, MAX_QUERY_TOKEN_CHARACTERS
from qkt_p2p.types import MEDIA, Query, QueryId, parse_class_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_node.events import QueryOptions
    from qkt_node.settings import NodeConfig
    from qkt_p2p.types import ClassName


def query_from(options: QueryOptions, config: NodeConfig) -> Query:
    """Return a new query; what the options leave open is as in node.toml. Raises UsageError."""
    _require_token(options.token)
    medium = options.medium or config.learning.medium
    if medium not in ("auto", *MEDIA):
        raise UsageError(f"unknown medium {medium[:40]!r}", fix=f"--medium {'|'.join(('auto', *MEDIA))}")
    deadline = options.deadline_seconds or config.learning.deadline_seconds
    if not 0 < deadline <= MAX_QUERY_SECONDS:
        raise UsageError(
            f"a deadline of {deadline:g} s is not between 0 and {MAX_QUERY_SECONDS:g} s",
            fix="--deadline 120s",
        )
    return Query(
        query_id=QueryId(secrets.token_hex(8)),
        classes=_classes(options.classes),
        medium=medium,
        seed=options.seed or config.node.seed,
        deadline_seconds=deadline,
        force=options.force,
        trial=options.trial,
        light=options.light,
        quorum=config.learning.quorum,
    )


def encode_options(options: QueryOptions) -> str:
    """Return what the owner asked for as one line of JSON, for `require_same`."""
    return json.dumps(asdict(options))


def require_same(options: QueryOptions, earlier_json: str, *, query_id: QueryId) -> None:
    """Raise UsageError where a token is used for something else than before; it names what differs."""
    earlier, now = json.loads(earlier_json), json.loads(encode_options(options))
    different = [
        f"{_flag(name)} was {_shown(earlier.get(name))} and is {_shown(now[name])}"
        for name in now
        if earlier.get(name) != now[name]
    ]
    if different:
        raise UsageError(
            f"the token {options.token!r} is that of query {query_id}, where {', '.join(different)}",
            fix="ask with the same options, or with another --token",
        )


def _flag(name: str) -> str:
    return "--deadline" if name == "deadline_seconds" else f"--{name}"


def _shown(value: object) -> str:
    """Return an option as people type it; one that was not given is told as such."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if value else "not given"


def _require_token(token: str) -> None:
    if len(token) > MAX_QUERY_TOKEN_CHARACTERS or not token.isprintable():
        raise UsageError(
            f"{token[:80]!r} is no token: up to {MAX_QUERY_TOKEN_CHARACTERS} printable characters",
            fix="--token $(uuidgen)",
        )


def _classes(names: Sequence[str]) -> tuple[ClassName, ...]:
    classes = tuple(dict.fromkeys(parse_class_name(name) for name in names))
    if not 0 < len(classes) <= MAX_QUERY_CLASSES:
        raise UsageError(f"a query names 1 to {MAX_QUERY_CLASSES} classes", fix="--classes a,b")
    return classes
