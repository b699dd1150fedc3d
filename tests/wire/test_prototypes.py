"""Prototypes as bytes, from friends and from strangers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.wire.prototypes import Prototype, decode_prototype, encode_prototype, is_prototype
from tests.wire.test_recipes import GOOD as RECIPE

NUMBERS = 6


def encoded(direction: np.ndarray, noise: np.ndarray | None = None) -> bytes:
    return save({"direction": direction, "noise": np.ones(1, np.float32) if noise is None else noise})


ZEROS = np.zeros(NUMBERS, np.float16)


@given(st.lists(st.floats(-60_000, 60_000, width=16), min_size=1, max_size=40), st.floats(0, 1000, width=32))
def test_what_goes_in_comes_out(numbers: list[float], noise: float) -> None:
    """Whatever a float16 can hold, the same each time."""
    prototype = Prototype(np.array(numbers, np.float32), noise)
    data = encode_prototype(prototype)
    assert is_prototype(data)
    assert data == encode_prototype(prototype)
    found = decode_prototype(data, numbers=len(numbers))
    assert np.array_equal(found.direction, prototype.direction)
    assert found.noise == noise


def test_a_recipe_is_no_prototype() -> None:
    """Each is read as what it is."""
    assert not is_prototype(RECIPE)
    assert not is_prototype(b"")
    assert not is_prototype(bytes(8) + b'{"direction"')
    with pytest.raises(ProtocolError, match="tensors"):
        decode_prototype(RECIPE, numbers=NUMBERS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(np.zeros(NUMBERS + 1, np.float16)), "shape"),
        (encoded(np.zeros((NUMBERS, 1), np.float16)), "shape"),
        (encoded(np.zeros((), np.float16)), "shape"),
        (encoded(ZEROS, np.ones(2, np.float32)), "shape"),
        (encoded(np.zeros(NUMBERS, np.float32)), "F32"),
        (encoded(np.full(NUMBERS, np.nan, np.float16)), "not finite"),
        (encoded(np.full(NUMBERS, np.inf, np.float16)), "not finite"),
        (encoded(ZEROS, np.full(1, np.nan, np.float32)), "noise below 0"),
        (encoded(ZEROS, np.full(1, np.inf, np.float32)), "noise below 0"),
        (encoded(ZEROS, np.full(1, -0.5, np.float32)), "noise below 0"),
        (save({"direction": ZEROS}), "tensors"),
        (save({"direction": ZEROS, "noise": np.ones(1, np.float32), "more": ZEROS}), "tensors"),
        (b"\x20" + bytes(7) + b'{"direction"', "not safetensors"),
        (encoded(ZEROS)[:-1], "not safetensors"),
    ],
)
def test_anything_else_is_refused(data: bytes, reason: str) -> None:
    """By the shape that the asker expects, and with numbers alone."""
    with pytest.raises(ProtocolError, match=reason):
        decode_prototype(data, numbers=NUMBERS)


@given(st.binary(max_size=200))
def test_strangers_bytes_raise_nothing_else(data: bytes) -> None:
    """Telling what they are, too."""
    is_prototype(data)
    with pytest.raises(ProtocolError):
        decode_prototype(data, numbers=NUMBERS)
