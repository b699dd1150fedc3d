"""What the owner asks for -> the query that the node runs."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from qkt_p2p.errors import UsageError
from qkt_p2p.limits import MAX_QUERY_CLASSES, MAX_QUERY_SECONDS
from qkt_p2p.types import MEDIA, Query, QueryId, parse_class_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_node.events import QueryOptions
    from qkt_node.settings import NodeConfig
    from qkt_p2p.types import ClassName


def query_from(options: QueryOptions, config: NodeConfig) -> Query:
    """Return a new query; what the options leave open is as in node.toml. Raises UsageError."""
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


def _classes(names: Sequence[str]) -> tuple[ClassName, ...]:
    classes = tuple(dict.fromkeys(parse_class_name(name) for name in names))
    if not 0 < len(classes) <= MAX_QUERY_CLASSES:
        raise UsageError(f"a query names 1 to {MAX_QUERY_CLASSES} classes", fix="--classes a,b")
    return classes
