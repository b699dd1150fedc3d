"""JSON that others wrote, or that is damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.files import parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values)
def test_json_is_read(value: object) -> None:
    """Whatever json writes of finite numbers comes back."""
    assert parse_json(json.dumps(value)) == value


@given(st.binary() | st.text())
def test_anything_else_is_a_value_error(text: str | bytes) -> None:
    """No text ends in another exception."""
    try:
        parse_json(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1e999", "[-Infinity]", "NaN", "9" * 5000]
)
def test_nesting_and_numbers_have_bounds(text: str) -> None:
    """What Python's own parser lets through, or ends with another exception, is a ValueError too."""
    with pytest.raises(ValueError, match=r"nested|finite|digits"):
        parse_json(text)
