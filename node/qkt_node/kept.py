"""What is kept of a query under way, as JSON in the journal: enough to go on where a daemon was killed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from qkt_p2p.errors import ConfigError
from qkt_p2p.outcome import STEPS, QueryOutcome

if TYPE_CHECKING:
    from qkt_p2p.store.journal import Journal

FORMAT: Final = 1
"""Counts up when what is kept changes its meaning; a field that is added, with a default, does not."""

TAKEN: Final = STEPS[1:]
"""The steps that are not taken again; peers have to be found anew."""


@dataclass(frozen=True, slots=True)
class KeptQuery:
    """A query as far as its finished steps, which were taken with that version of the node's model."""

    outcome: QueryOutcome
    model_version: int = 0


_KEPT: Final = TypeAdapter(KeptQuery)


def encode_kept(kept: KeptQuery) -> str:
    """Return a kept query as one line of JSON."""
    content: dict[str, Any] = _KEPT.dump_python(kept, mode="json")
    return json.dumps({"format": FORMAT, **content}, allow_nan=False)


def decode_kept(text: str) -> KeptQuery:
    """Return what `encode_kept` wrote; raises ConfigError for anything else."""
    try:
        content = json.loads(text)
        found = content.pop("format")
        if found != FORMAT:
            raise ConfigError(f"what was kept has format {found!r}, this software knows {FORMAT}")
        kept = _KEPT.validate_python(content)
    except ValidationError as error:
        at = ".".join(map(str, error.errors()[0]["loc"]))
        raise ConfigError(f"what was kept is not as expected at {at}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError("what was kept is no JSON of this software") from error
    finished = kept.outcome.finished
    if finished != TAKEN[: len(finished)]:
        raise ConfigError(f"what was kept has finished the steps {finished}, which do not follow each other")
    return kept


def lacks_responses(outcome: QueryOutcome, journal: Journal) -> bool:
    """Tell whether the disk lost, as in a power cut, what a query collected and still has to learn from."""
    if "collect" not in outcome.finished or "validate" in outcome.finished:
        return False
    query_id = outcome.query.query_id
    needed: set[bytes] = set()
    for teacher in outcome.teachers.values():
        if teacher.used:
            offer = journal.load_offer(query_id, teacher.peer)
            if offer is None:
                return True
            needed |= {info.digest for info in offer.only(teacher.classes).chunks}
    return not needed <= journal.held_digests(query_id)
