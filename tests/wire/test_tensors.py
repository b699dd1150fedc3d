"""Synthetic batches as bytes, from friends and from strangers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES
from qkt_p2p.types import ClassName, Shape
from qkt_p2p.wire.tensors import (
    SyntheticBatch,
    as_levels,
    decode_batch,
    decode_targets,
    encode_batch,
    encode_targets,
    tensors_of,
)

SHAPE: Shape = (1, 2, 3)
CLASSES = (ClassName("a"), ClassName("b"))


def arrays(samples: int = 4, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    targets = generator.dirichlet(np.ones(len(CLASSES)), samples).astype(np.float32)
    return {"inputs": generator.random((samples, *SHAPE), np.float32), "targets": targets}


def decode(data: bytes) -> SyntheticBatch:
    return decode_batch(data, input_shape=SHAPE, classes=CLASSES)


def good(seed: int = 0) -> bytes:
    return encode_batch(**arrays(seed=seed))


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_floats_survive_the_way_there_and_back(samples: int, seed: int) -> None:
    """Inputs are exact, targets within half precision and distributions."""
    sent = arrays(samples, seed)
    batch = decode(encode_batch(**sent))
    assert np.array_equal(batch.inputs, sent["inputs"])
    assert np.allclose(batch.targets, sent["targets"], atol=2e-3)
    assert np.allclose(batch.targets.sum(1), 1, atol=1e-6)
    assert batch.classes == CLASSES
    assert batch.inputs.dtype == batch.targets.dtype == np.float32
    assert len(batch) == samples


def test_levels_cost_a_byte_each_and_are_exact() -> None:
    """Inputs in 255 levels come back as these levels."""
    sent = arrays(200)
    levels = as_levels(sent["inputs"])
    data = encode_batch(levels, sent["targets"])
    assert np.array_equal(decode(data).inputs, levels.astype(np.float32) / np.float32(255))
    assert len(data) < 200 * (6 + 4) + 256


def test_the_same_batch_gives_the_same_bytes() -> None:
    """Digests of chunks can be compared."""
    assert good() == good()
    assert good() != good(seed=1)


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xff" * 8)
@example((2).to_bytes(8, "little") + b"{}")
@example((2**63).to_bytes(8, "little") + b"{}")
@example(b"\x80\x05K\x01.")
def test_arbitrary_bytes_are_a_protocol_error(data: bytes) -> None:
    """No bytes that a stranger makes up raise anything else."""
    with pytest.raises(ProtocolError):
        decode(data)


@given(st.data())
def test_mutated_batches_decode_or_are_a_protocol_error(choice: st.DataObject) -> None:
    """A damaged batch either still is a sound one or is refused, never anything else."""
    data = bytearray(good())
    for _ in range(choice.draw(st.integers(1, 8))):
        data[choice.draw(st.integers(0, len(data) - 1))] = choice.draw(st.integers(0, 255))
    cut = choice.draw(st.integers(0, 3))
    try:
        batch = decode(bytes(data[: len(data) - cut]))
    except ProtocolError:
        return
    assert batch.inputs.shape == (4, *SHAPE)
    assert 0 <= batch.inputs.min() <= batch.inputs.max() <= 1
    assert np.allclose(batch.targets.sum(1), 1, atol=1e-5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
tensor_headers = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(
            ["F32", "F16", "U8", "F64", "BF16", "BOOL", "F8_E4M3", "F4", "C64", "I64", "X"]
        ),
        "shape": st.lists(st.integers(0, 2**65), max_size=5),
        "data_offsets": st.lists(st.integers(0, 2**65), min_size=1, max_size=3),
    }
)


@given(
    st.dictionaries(st.sampled_from(["inputs", "targets", "__metadata__", "x"]), json_values | tensor_headers)
)
def test_made_up_headers_are_a_protocol_error(header: dict[str, Any]) -> None:
    """Whatever a header claims about types, shapes and offsets is refused without harm."""
    text = json.dumps(header).encode()
    with pytest.raises(ProtocolError):
        decode(len(text).to_bytes(8, "little") + text + bytes(64))


def replaced(**changes: np.ndarray[Any, Any]) -> bytes:
    return save({**arrays(), **changes})


INPUTS, TARGETS = arrays()["inputs"], arrays()["targets"]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([0, 2**62, 2**62], "targets are empty"),
        ([0, 2**63], "targets are empty"),
        ([1] * 70, "targets have 70 dimensions"),
    ],
)
def test_shapes_that_numpy_does_not_take_are_refused(shape: list[int], message: str) -> None:
    """Beside a 0 a file may name sides of any length, and dimensions without end."""
    size = 0 if 0 in shape else 2
    header = {"targets": {"dtype": "F16", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    with pytest.raises(ProtocolError, match=message):
        decode_targets(len(text).to_bytes(8, "little") + text + bytes(size), samples=4, classes=CLASSES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (replaced(extra=np.zeros(1, np.float32)), "extra"),
        (save({"inputs": INPUTS}), "came, not"),
        (replaced(inputs=INPUTS.astype(np.float64)), "F64"),
        (replaced(inputs=INPUTS.astype(np.int64)), "I64"),
        (replaced(inputs=INPUTS.astype(np.int8)), "I8"),
        (replaced(inputs=INPUTS[:, :, :, :2]), "inputs of shape"),
        (replaced(inputs=INPUTS.reshape(4, -1)), "inputs of shape"),
        (replaced(inputs=INPUTS[:0], targets=TARGETS[:0]), "(inputs|targets) are empty"),
        (replaced(inputs=np.array(1, np.float32)), "0 samples"),
        (replaced(targets=TARGETS[:3]), "targets of shape"),
        (replaced(targets=TARGETS[:, :1]), "targets of shape"),
        (replaced(inputs=np.full_like(INPUTS, np.nan)), "inputs that are not numbers"),
        (replaced(inputs=INPUTS + 1), "inputs that are not numbers"),
        (replaced(inputs=np.full_like(INPUTS, -np.inf)), "inputs that are not numbers"),
        (replaced(targets=np.full_like(TARGETS, np.nan)), "targets that are not numbers"),
        (replaced(targets=np.array([[2, -1]] * 4, np.float32)), "targets that are not numbers"),
        (replaced(targets=np.full_like(TARGETS, 0.4)), "miss a sum of 1"),
        (replaced(targets=np.zeros_like(TARGETS)), "miss a sum of 1"),
        (bytes(MAX_CHUNK_BYTES + 1), "bytes, allowed"),
    ],
)
def test_unsound_batches_are_refused_with_the_reason(data: bytes, message: str) -> None:
    """Extra and missing tensors, foreign types, wrong shapes and impossible numbers are each named."""
    with pytest.raises(ProtocolError, match=message):
        decode(data)


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2000, 1), (1024, 1024, 1024)])
def test_an_impossible_expectation_is_refused(shape: Shape) -> None:
    """The expected shape may come from a peer's offer, so it is checked too."""
    with pytest.raises(ProtocolError, match="no synthetic batch"):
        decode_batch(good(), input_shape=shape, classes=CLASSES)
    with pytest.raises(ProtocolError, match="no synthetic batch"):
        decode_batch(good(), input_shape=SHAPE, classes=())


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_targets_travel_alone(samples: int, seed: int) -> None:
    """They are as exact as those of a batch."""
    sent = arrays(samples, seed)["targets"]
    found = decode_targets(encode_targets(sent), samples=samples, classes=CLASSES)
    assert np.allclose(found, sent, atol=2e-3)
    assert np.allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode_targets(TARGETS[:3]), "targets of shape"),
        (encode_targets(TARGETS[:, :1]), "targets of shape"),
        (encode_targets(np.full_like(TARGETS, np.nan)), "targets that are not numbers"),
        (encode_targets(np.full_like(TARGETS, 0.4)), "miss a sum of 1"),
        (save({"targets": TARGETS}), "F32, allowed are F16"),
        (good(), "came, not"),
        (b"", "not safetensors"),
    ],
)
def test_unsound_targets_are_refused_with_the_reason(data: bytes, message: str) -> None:
    """Whatever is not one distribution for each sample is named."""
    with pytest.raises(ProtocolError, match=message):
        decode_targets(data, samples=4, classes=CLASSES)


def test_a_file_may_be_larger_where_its_reader_says_so() -> None:
    """The cap is that of a chunk, unless the reader knows of something else."""
    data = save({"x": np.zeros(100, np.float32)})
    assert len(tensors_of(data, {"x": "F32"}, most_bytes=len(data))["x"]) == 100
    with pytest.raises(ProtocolError, match="allowed are 100"):
        tensors_of(data, {"x": "F32"}, most_bytes=100)
