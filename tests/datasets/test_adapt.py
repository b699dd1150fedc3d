"""Inputs of one shape for a model that takes another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qkt_p2p.datasets import adapt_inputs
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.types import Shape

SIDES = st.integers(1, 12)


def images(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random(shape, np.float32)


def test_inputs_of_the_right_shape_stay_as_they_are() -> None:
    """Nothing is copied."""
    inputs = images(2, 3, 4, 5)
    assert adapt_inputs(inputs, (3, 4, 5)) is inputs


@pytest.mark.parametrize("size", [(4, 20), (9, 13), (28, 7), (40, 40)], ids=str)
def test_sizes_are_scaled_as_by_pillow(size: tuple[int, int]) -> None:
    """Growing is bilinear; shrinking averages over all that a pixel covers."""
    inputs = images(1, 1, 14, 20)
    expected = Image.fromarray(inputs[0, 0]).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.allclose(adapt_inputs(inputs, (1, *size))[0, 0], np.asarray(expected), atol=1e-5)


@given(SIDES, SIDES, st.floats(0, 1, width=32), st.sampled_from([(1, 1), (1, 3), (3, 1), (3, 3)]))
def test_a_plain_image_stays_plain(height: int, width: int, level: float, colours: tuple[int, int]) -> None:
    """Every size and colour of a constant is that constant, as float32 in [0, 1]."""
    adapted = adapt_inputs(np.full((2, colours[0], 6, 6), level, np.float32), (colours[1], 6, 6))
    scaled = adapt_inputs(adapted, (colours[1], max(2, height), max(2, width)))
    assert scaled.dtype == np.float32
    assert np.allclose(scaled, level, atol=1e-5)
    assert 0 <= scaled.min() <= scaled.max() <= 1


def test_grey_and_colour_convert() -> None:
    """Grey is repeated; colour is weighed as the eye does."""
    grey, colour = images(2, 1, 4, 4), images(2, 3, 4, 4)
    assert np.array_equal(adapt_inputs(grey, (3, 4, 4)), np.concatenate([grey] * 3, axis=1))
    pure = np.zeros((1, 3, 1, 1), np.float32)
    pure[0, 1] = 1
    assert adapt_inputs(pure, (1, 1, 1)).item() == pytest.approx(0.587)
    assert adapt_inputs(colour, (1, 8, 8)).shape == (2, 1, 8, 8)


def test_no_inputs_are_no_obstacle() -> None:
    """An empty array gets the shape too."""
    assert adapt_inputs(images(0, 1, 4, 4), (3, 8, 8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 8, 8), (1, 33, 8), (1, 8, 1)], ids=str)
def test_shapes_that_are_too_far_apart_are_refused(shape: Shape) -> None:
    """The refusal names both shapes."""
    with pytest.raises(PeerRefusedError) as caught:
        adapt_inputs(images(2, 1, 8, 8), shape)
    assert "(1, 8, 8)" in caught.value.message
    assert str(shape) in caught.value.message
