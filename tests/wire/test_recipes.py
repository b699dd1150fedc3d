"""Recipes as bytes, from friends and from strangers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES, MAX_RECIPE_COMPONENTS, MAX_RECIPE_RANK
from qkt_p2p.types import ENCODINGS, ClassName
from qkt_p2p.wire.encodings import encode_chunks
from qkt_p2p.wire.recipes import Recipe, decode_recipe, encode_recipe
from qkt_p2p.wire.tensors import encode_batch

CLASSES = (ClassName("a"), ClassName("b"), ClassName("c"))
NUMBERS = 6


def recipe(
    seed: int = 0, *, numbers: int = NUMBERS, rank: int = 2, components: int = 3, classes: int = 3
) -> Recipe:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return generator.standard_normal(shape).astype(np.float32)

    return Recipe(
        mean=normal(numbers),
        basis=normal(rank, numbers),
        residual=np.abs(normal(numbers)),
        weights=generator.dirichlet(np.ones(components)).astype(np.float32),
        means=normal(components, rank),
        factors=np.tril(normal(components, rank, rank)),
        targets=generator.dirichlet(np.ones(classes), components).astype(np.float32),
    )


def decode(data: bytes) -> Recipe:
    return decode_recipe(data, numbers=NUMBERS, classes=CLASSES)


GOOD = encode_recipe(recipe())

sizes = st.fixed_dictionaries(
    {
        "numbers": st.integers(1, 40),
        "rank": st.integers(1, 6),
        "components": st.integers(1, 5),
        "classes": st.integers(1, 5),
    }
).filter(lambda sizes: sizes["rank"] <= sizes["numbers"])


@given(sizes, st.integers(0, 2**32))
def test_a_recipe_survives_the_way_there_and_back(size: dict[str, int], seed: int) -> None:
    """Whatever is large is within half a step, everything else within half precision."""
    sent = recipe(seed, **size)
    names = [ClassName(str(at)) for at in range(size["classes"])]
    data = encode_recipe(sent)
    found = decode_recipe(data, numbers=size["numbers"], classes=names)
    rank = size["rank"]
    mean_step, _, basis_steps, factor_steps = np.split(load(data)["steps"], [1, 2, 2 + rank])
    assert (np.abs(found.mean - sent.mean) <= 0.501 * mean_step).all()
    assert (np.abs(found.basis - sent.basis) <= 0.501 * basis_steps[:, None]).all()
    assert (np.abs(found.factors - sent.factors) <= 0.501 * factor_steps[:, None]).all()
    for name in ("means", "weights", "targets"):
        assert np.allclose(getattr(found, name), getattr(sent, name), rtol=2e-3, atol=2e-3), name
    assert np.allclose(found.targets.sum(1), 1, atol=1e-6)
    assert found.weights.sum() == pytest.approx(1, abs=1e-6)
    assert {getattr(found, field.name).dtype for field in fields(found)} == {np.dtype(np.float32)}


@given(sizes, st.integers(0, 2**32))
def test_where_axes_leave_nothing_out_they_are_as_fine_as_8_bits(size: dict[str, int], seed: int) -> None:
    """There is no noise that could hide coarse steps."""
    sent = replace(recipe(seed, **size), residual=np.zeros(size["numbers"], np.float32))
    steps = load(encode_recipe(sent))["steps"]
    largest = [np.abs(sent.mean).max(), 0, *np.abs(sent.basis).max(1), *np.abs(sent.factors).max((0, 2))]
    assert np.delete(steps, 1) == pytest.approx(np.delete(largest, 1) / 127, rel=1e-5)


def test_coarse_steps_leave_deviations_as_they_are() -> None:
    """What rounding adds to the axes is taken from what they leave out, number by number."""
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((400, 20)))[0].T.astype(np.float32)
    spread = np.linspace(20, 2, 20, dtype=np.float32)
    sent = Recipe(
        mean=generator.standard_normal(400).astype(np.float32),
        basis=axes,
        residual=generator.uniform(0.3, 0.5, 400).astype(np.float32),
        weights=np.ones(1, np.float32),
        means=np.zeros((1, 20), np.float32),
        factors=np.diag(spread)[None],
        targets=np.ones((1, 1), np.float32),
    )
    found = decode_recipe(encode_recipe(sent), numbers=400, classes=CLASSES[:1])

    def variances(of: Recipe) -> np.ndarray[Any, Any]:
        return np.asarray(((of.factors[0].T @ of.basis) ** 2).sum(0) + of.residual**2)

    added = ((spread[:, None] * (found.basis - sent.basis)) ** 2).sum(0).mean()
    assert 0.02 < added / (sent.residual**2).mean() < 0.04
    assert variances(found) == pytest.approx(variances(sent), rel=0.1)


def test_axes_of_zeros_survive() -> None:
    """A class of one look has no directions, and no scale to divide by."""
    flat = replace(recipe(), basis=np.zeros((2, NUMBERS), np.float32))
    assert not decode(encode_recipe(flat)).basis.any()


def test_the_same_recipe_has_the_same_bytes() -> None:
    """Digests of chunks can be compared."""
    assert encode_recipe(recipe()) == GOOD
    assert encode_recipe(recipe(1)) != GOOD


def test_axes_cost_a_byte_a_number_before_they_are_compressed() -> None:
    """48 axes of 1000 numbers take 48 kB, and little is added."""
    data = encode_recipe(recipe(numbers=1000, rank=48, components=8))
    assert len(data) < 48_000 + 2 * 1000 + 8 * (24 * 49 + 2 * 48 + 12) + 1200


def test_steps_are_coarse_enough_to_compress() -> None:
    """A class that its axes describe to a fifth of its variance travels in half of its bytes."""
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((1000, 48)))[0].T.astype(np.float32)
    spread = 30 * 0.95 ** np.arange(48, dtype=np.float32)
    left_out = np.full(1000, np.sqrt(0.25 * (spread**2).sum() / 1000), np.float32)
    described = replace(
        recipe(numbers=1000, rank=48, components=1),
        basis=axes,
        residual=left_out,
        means=np.zeros((1, 48), np.float32),
        factors=np.diag(spread)[None],
    )
    data = encode_recipe(described)
    _, (travelling,) = encode_chunks([data], ENCODINGS)
    assert len(travelling) < len(data) / 2


@given(st.binary(max_size=400))
@example(b"")
@example((2).to_bytes(8, "little") + b"{}")
@example((2**63).to_bytes(8, "little") + b"{}")
@example(encode_batch(np.zeros((1, 1, 2, 3), np.float32), np.ones((1, 1), np.float32)))
def test_arbitrary_bytes_are_a_protocol_error(data: bytes) -> None:
    """No bytes that a stranger makes up raise anything else."""
    with pytest.raises(ProtocolError):
        decode(data)


def sound(found: Recipe) -> bool:
    """Whether samples can be drawn from a recipe as it was decoded."""
    finite = all(np.isfinite(getattr(found, field.name)).all() for field in fields(found))
    distributions = np.allclose(found.targets.sum(1), 1, atol=1e-5) and np.isclose(found.weights.sum(), 1)
    return finite and distributions and found.residual.min() >= 0 and found.targets.shape[1] == len(CLASSES)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_recipes_decode_or_are_a_protocol_error(damage: list[tuple[int, int]]) -> None:
    """A recipe with other bytes in it either still is a sound one or is refused, never anything else."""
    data = bytearray(GOOD)
    for at, value in damage:
        data[at] = value
    try:
        found = decode(bytes(data))
    except ProtocolError:
        return
    assert sound(found)


@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_recipe_is_a_protocol_error(size: int) -> None:
    """A file that breaks off is never a shorter recipe."""
    with pytest.raises(ProtocolError):
        decode(GOOD[:size])


def changed(**changes: Any) -> bytes:
    return save({**load(GOOD), **changes})


def sent(**changes: Any) -> bytes:
    return encode_recipe(replace(recipe(), **changes))


def without(name: str) -> bytes:
    return save({key: array for key, array in load(GOOD).items() if key != name})


LOADED = load(GOOD)


@pytest.mark.parametrize("name", sorted(LOADED))
def test_every_tensor_is_needed_and_has_its_type_and_shape(name: str) -> None:
    """A tensor that is absent, of another type, empty, or of other dimensions is refused by name."""
    array = LOADED[name]
    with pytest.raises(ProtocolError, match="came, not"):
        decode(without(name))
    with pytest.raises(ProtocolError, match=f"{name} are of type F64"):
        decode(changed(**{name: array.astype(np.float64)}))
    with pytest.raises(ProtocolError, match=f"{name} are empty"):
        decode(changed(**{name: array[:0]}))
    for other in (array[..., :-1], array[None], np.concatenate([array, array], axis=-1)):
        with pytest.raises(ProtocolError):
            decode(changed(**{name: np.ascontiguousarray(other)}))


@pytest.mark.parametrize("name", sorted(name for name, array in LOADED.items() if array.dtype != np.int8))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_are_finite(name: str, value: float) -> None:
    """One number that is none spoils a recipe, wherever it stands."""
    array = LOADED[name].copy()
    array.flat[-1] = value
    with pytest.raises(ProtocolError, match=f"{name} that are not finite"):
        decode(changed(**{name: array}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(residual=-LOADED["residual"]), "residual below 0"),
        (sent(weights=np.array([1.5, -0.5, 0], np.float32)), "weights are below 0"),
        (sent(weights=np.array([0.5, 0.2, 0.2], np.float32)), "weights miss a sum of 1"),
        (sent(targets=np.zeros((3, 3), np.float32)), "targets miss a sum of 1"),
        (sent(targets=np.full((3, 3), 0.5, np.float32)), "targets miss a sum of 1"),
        (sent(targets=np.array([[2, -1, 0]] * 3, np.float32)), "targets are below 0"),
        (changed(steps=np.full(6, 2e5, np.float32)), "steps that are not finite numbers up to 100000"),
        (changed(steps=LOADED["steps"][:-1]), "steps of shape"),
        (changed(extra=np.zeros(1, np.float32)), "extra"),
        (changed(weights=np.array(1, np.float32)), "2 axes and 0 Gaussians"),
        (changed(basis=np.array(1, np.int8)), "0 axes and 3 Gaussians"),
        (encode_recipe(recipe(rank=NUMBERS + 1)), f"a recipe of {NUMBERS} numbers has {NUMBERS + 1} axes"),
        (
            encode_recipe(recipe(components=MAX_RECIPE_COMPONENTS + 1)),
            f"{MAX_RECIPE_COMPONENTS + 1} Gaussians",
        ),
        (encode_recipe(recipe(numbers=NUMBERS + 1)), "of shape"),
        (encode_recipe(recipe(classes=2)), "targets of shape"),
        (bytes(MAX_CHUNK_BYTES + 1), "bytes, allowed"),
    ],
)
def test_unsound_recipes_are_refused_with_the_reason(data: bytes, message: str) -> None:
    """Numbers that are no deviation or no distribution, and recipes that are too large, are each named."""
    with pytest.raises(ProtocolError, match=message):
        decode(data)


def test_the_largest_recipe_is_decoded() -> None:
    """Caps are reached and not passed."""
    numbers = MAX_RECIPE_RANK + 1
    largest, larger = (
        encode_recipe(recipe(numbers=numbers, rank=rank, components=8)) for rank in (numbers - 1, numbers)
    )
    found = decode_recipe(largest, numbers=numbers, classes=CLASSES)
    assert found.basis.shape == (MAX_RECIPE_RANK, numbers)
    with pytest.raises(ProtocolError, match=f"has {numbers} axes"):
        decode_recipe(larger, numbers=numbers, classes=CLASSES)
    assert (
        len(decode(encode_recipe(recipe(components=MAX_RECIPE_COMPONENTS))).weights) == MAX_RECIPE_COMPONENTS
    )
