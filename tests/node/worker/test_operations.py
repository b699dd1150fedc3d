"""What crosses the border between daemon and worker: JSON lines, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from qkt_node.worker.operations import OPERATIONS, PROBE, SYNTHESIZE, TeachOrder
from qkt_p2p.types import ProbeReport, ProbeRequest, QueryId, TeachRequest
from tests.wire import strategies

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def carried(kind: TypeAdapter[Any], value: object) -> object:
    """Return what arrives of a value that is sent as a JSON line."""
    return kind.validate_python(json.loads(json.dumps(kind.dump_python(value, mode="json"))), strict=False)


@given(strategies.probe_requests, strategies.probe_reports)
def test_probes_cross_unchanged(request: ProbeRequest, report: ProbeReport) -> None:
    """Evidence is as exact there as here."""
    assert carried(PROBE.argument, request) == request
    assert carried(PROBE.result, report) == report


@given(strategies.teach_requests)
def test_an_order_crosses_with_its_stem(request: TeachRequest) -> None:
    """Bytes travel as text; what the asker holds, or wants of it now, is no part of what is made."""
    arrived = carried(SYNTHESIZE.argument, TeachOrder.of(request))
    assert isinstance(arrived, TeachOrder)
    assert arrived == TeachOrder.of(request)
    assert arrived.whole == replace(request, query_id=QueryId(""), held=(), offer_only=False)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
@given(anything)
def test_any_argument_is_taken_or_invalid(operation: Any, value: object) -> None:
    """No JSON makes the check of a border end otherwise."""
    for kind in (operation.argument, operation.result):
        try:
            kind.validate_python(value, strict=False)
        except ValidationError:
            continue
