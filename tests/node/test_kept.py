"""What is kept of a query comes back as it was, and nothing else is taken for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_node.kept import TAKEN, KeptQuery, decode_kept, encode_kept
from qkt_p2p.errors import ConfigError
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.types import ClassAccuracy, ClassName, PeerId, Query, QueryId

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(ClassName)
shares = st.floats(0, 1)
counts = st.integers(0, 2**63)
peers = st.text("abc", min_size=52, max_size=52).map(PeerId)
classes = st.lists(names, max_size=4).map(tuple)
KEPT = KeptQuery(QueryOutcome(Query(QueryId("0" * 16), (ClassName("7"),), "auto", 1, 10.0)), 3)


@st.composite
def outcomes(draw: st.DrawFn) -> QueryOutcome:
    """An outcome after any number of steps."""
    query = st.builds(
        Query,
        query_id=st.just(QueryId("0" * 16)),
        classes=classes,
        medium=st.sampled_from(["auto", "moments"]),
        seed=counts,
        deadline_seconds=st.floats(0.1, 1e5),
        force=st.booleans(),
        trial=st.booleans(),
        light=st.booleans(),
    )
    teacher = st.builds(
        TeacherOutcome,
        peer=peers,
        name=names,
        evidence=st.dictionaries(names, shares, max_size=4),
        classes=classes,
        media=st.lists(st.sampled_from(["moments", "noise"]), max_size=2).map(tuple),
        samples=counts,
        bytes=counts,
        weight=shares,
        used=st.booleans(),
        reason=names,
        misbehaved=st.booleans(),
    )
    accuracy = st.builds(
        ClassAccuracy,
        class_name=names,
        before=shares,
        after=shares,
        measured_on=st.sampled_from(["evaluation", "holdout", "estimate"]),
        asked=st.booleans(),
    )
    found = draw(st.lists(teacher, max_size=3))
    return QueryOutcome(
        draw(query),
        finished=TAKEN[: draw(st.integers(0, len(TAKEN)))],
        verdict=draw(st.sampled_from(["", "accepted", "refused"])),
        medium=draw(st.sampled_from(["", "moments"])),
        reason=draw(names),
        teachers={each.peer: each for each in found},
        accuracy=tuple(draw(st.lists(accuracy, max_size=3))),
        bytes_sent=draw(counts),
        bytes_received=draw(counts),
        seconds=draw(st.dictionaries(st.sampled_from(TAKEN), st.floats(0, 1e5))),
    )


@given(outcome=outcomes(), version=counts)
def test_any_outcome_comes_back(outcome: QueryOutcome, version: int) -> None:
    """Through one line of JSON, with every name and number."""
    kept = KeptQuery(outcome, version)
    text = encode_kept(kept)
    assert "\n" not in text
    assert decode_kept(text) == kept


def changed(**fields: Any) -> str:
    content = json.loads(encode_kept(KEPT))
    content["outcome"] |= fields
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON of this software"),
        ("[]", "no JSON of this software"),
        ("{}", "no JSON of this software"),
        ("null", "no JSON of this software"),
        ('{"format": 7}', "format 7, this software knows 1"),
        ('{"format": 1}', "not as expected at outcome"),
        (changed(finished=["phase1"]), "which do not follow each other"),
        (changed(finished=["probe", "probe"]), "which do not follow each other"),
        (changed(verdict="perhaps"), "not as expected at outcome.verdict"),
        (changed(teachers={"a": {"peer": "a"}}), "not as expected at outcome.teachers.a.name"),
        (changed(seconds={"probe": "long"}), "not as expected at outcome.seconds.probe"),
    ],
)
def test_anything_else_is_refused(text: str, why: str) -> None:
    """A damaged or foreign text ends in one error, which says where."""
    with pytest.raises(ConfigError, match=why):
        decode_kept(text)


@given(st.text(max_size=50) | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_no_text_breaks_the_decoder(text: str) -> None:
    """Nothing but ConfigError is raised."""
    with pytest.raises(ConfigError):
        decode_kept(text)


def test_fields_of_a_later_version_are_passed_over() -> None:
    """And those that it adds have their defaults."""
    assert decode_kept(changed(added="something")) == KEPT
