"""Stems that strangers send: what is run, and what is refused before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from structlog.testing import capture_logs

from qkt_p2p.errors import CancelledError, PeerRefusedError, ProtocolError
from qkt_p2p.limits import MAX_STEM_BYTES, MAX_STEM_NODES, MAX_STEM_WEIGHTS
from qkt_p2p.synthesis.stem import Stem, _session
from tests.synthesis.graphs import FLOAT, INPUTS, SHAPE, good, graph_of, node, numbers, weights


def parse(model: onnx.ModelProto) -> Stem:
    return Stem.parse(model.SerializeToString(), input_shape=SHAPE)


def test_a_stem_maps_every_sample_by_itself() -> None:
    """A batch that is not full gives what a full one gives; no sample gives no features."""
    stem = parse(good())
    features = stem.features(INPUTS)
    assert stem.feature_shape == (4, 4, 4)
    assert features.shape == (70, 4, 4, 4)
    assert features.dtype == np.float32
    assert np.allclose(stem.features(INPUTS[66:67]), features[66:67], atol=1e-6)
    assert stem.features(INPUTS[:0]).shape == (0, 4, 4, 4)


def test_the_digest_is_that_of_the_bytes() -> None:
    """Two stems have one digest only where they are the same."""
    other = good()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    assert parse(good()).digest == parse(good()).digest != parse(other).digest


def cancelled_after(batches: int) -> Callable[[float, float, str], None]:
    told: list[float] = []

    def report(done: float, total: float, message: str) -> None:
        told.append(done)
        if len(told) > batches:
            raise CancelledError("the operation was cancelled")

    return report


def test_a_run_ends_in_time_or_when_told() -> None:
    """A deadline that is over refuses, and the owner's interruption is one."""
    stem = parse(good())
    with pytest.raises(PeerRefusedError, match="too long"):
        stem.features(INPUTS, seconds=0)
    with pytest.raises(CancelledError):
        stem.features(INPUTS, report=cancelled_after(0))
    with pytest.raises(CancelledError):
        stem.features(INPUTS, report=cancelled_after(1))


def test_a_batch_that_lasts_too_long_is_cut_off() -> None:
    """Costly layers, each allowed, are given up between two of them."""
    nodes = [
        node("Conv", "x" if at == 0 else f"v{at - 1}", "w", to=f"v{at}", pads=[3] * 4, strides=[1, 1])
        for at in range(400)
    ]
    model = graph_of(nodes, [weights("w", 3, 3, 7, 7)], shape=["n", 3, 64, 64])
    stem = Stem.parse(model.SerializeToString(), input_shape=(3, 64, 64))
    with pytest.raises(PeerRefusedError, match="too long"):
        stem.features(np.zeros((64, 3, 64, 64), np.float32), seconds=0.05)


def nan_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "w")
    )


def external_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def half_external_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def text_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        TensorProto(name="t", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"])
    )


def short_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**20


def negative_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -4


def weights_of_other_channels(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(weights("w", 4, 5, 3, 3))


def unused_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(weights("nobody's", 1))


def no_weights(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]


def branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([node("Relu", "x", to="z")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y2"], then_branch=inner, else_branch=inner))


def loop(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([node("Relu", "x", to="z")], "inner", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["y2"], body=inner))


def graph_attribute(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([node("Relu", "x", to="z")], "inner", [], [])
    model.graph.node[1].attribute.append(helper.make_attribute("body", inner))


def other_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def other_domain_of_a_node(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.microsoft"


def function(model: onnx.ModelProto) -> None:
    made = helper.make_function(
        "ai.onnx", "Relu", ["a"], ["b"], [node("Sigmoid", "a", to="b")], [helper.make_opsetid("", 20)]
    )
    model.functions.append(made)


def training(model: onnx.ModelProto) -> None:
    model.training_info.add()


def ancient(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 5


def unheard_of_version(model: onnx.ModelProto) -> None:
    model.ir_version = 999


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("x2", FLOAT, ["n", 1]))


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("b", FLOAT, ["n", 4, 8, 8]))


def no_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def double_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def open_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def output_of_other_rank(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim.add()


def unknown_input_of_a_node(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "nowhere"


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "b"


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "a"


def huge_padding(model: onnx.ModelProto) -> None:
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.append(helper.make_attribute("pads", [2**62] * 4))


def wrong_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("group", 5))


def garbage(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.add(name="alpha", type=AttributeProto.UNDEFINED)


@pytest.mark.parametrize(
    "damage",
    [
        nan_weights,
        external_weights,
        half_external_weights,
        text_weights,
        short_weights,
        negative_weights,
        weights_of_other_channels,
        unused_weights,
        no_weights,
        branch,
        loop,
        graph_attribute,
        other_domain,
        other_domain_of_a_node,
        function,
        training,
        ancient,
        unheard_of_version,
        two_inputs,
        two_outputs,
        no_output,
        double_input,
        other_input,
        open_input,
        fixed_batch,
        output_of_other_rank,
        unknown_input_of_a_node,
        circle,
        made_twice,
        huge_padding,
        wrong_attribute,
        garbage,
    ],
)
def test_what_is_malformed_makes_no_features(damage: Callable[[onnx.ModelProto], None]) -> None:
    """Control flow, foreign operators, references to files and shapes that do not fit break the protocol."""
    model = good()
    damage(model)
    with pytest.raises(ProtocolError):
        parse(model).features(INPUTS)


def wide() -> onnx.ModelProto:
    """One layer makes 64 million numbers of a sample."""
    return graph_of([node("Conv", "x", "w", pads=[500] * 4)], [weights("w", 64, 3, 1, 1)])


def deep() -> onnx.ModelProto:
    """A quarter of a million weights at a million places."""
    return graph_of([node("Conv", "x", "w", pads=[90] * 4)], [weights("w", 64, 3, 30, 30)])


def outer_product() -> onnx.ModelProto:
    """A small file whose constants multiply to 40 billion numbers."""
    nodes = [node("MatMul", "u", "v", to="m"), node("ReduceMean", "m", to="r"), node("Add", "x", "r")]
    return graph_of(nodes, [weights("u", 200_000, 1), weights("v", 1, 200_000)])


def long() -> onnx.ModelProto:
    nodes = [node("Relu", "x" if at == 0 else f"v{at - 1}", to=f"v{at}") for at in range(MAX_STEM_NODES + 1)]
    return graph_of(nodes, [])


def many_weights() -> onnx.ModelProto:
    """One operator takes more tensors than a stem may have."""
    names = [f"w{at}" for at in range(MAX_STEM_WEIGHTS + 1)]
    nodes = [node("Concat", *names, to="c", axis=0), node("ReduceMean", "c", to="r"), node("Add", "x", "r")]
    return graph_of(nodes, [weights(name, 1) for name in names])


@pytest.mark.parametrize("make", [wide, deep, outer_product, long, many_weights])
def test_what_costs_too_much_is_refused(make: Callable[[], onnx.ModelProto]) -> None:
    """Memory and work are known before anything runs."""
    with pytest.raises(PeerRefusedError):
        parse(make())


def test_a_file_that_is_too_large_is_not_even_read() -> None:
    """The cap comes before the parser."""
    with pytest.raises(PeerRefusedError, match="bytes"):
        Stem.parse(bytes(MAX_STEM_BYTES + 1), input_shape=SHAPE)


@pytest.mark.parametrize(
    "model",
    [
        graph_of([node("Reshape", "x", "s")], [numbers("s", 1, -1)], made=["n", None]),
        graph_of([node("ReduceMean", "x", keepdims=0)], [], made=["n"]),
        graph_of([node("Reshape", "x", "s")], [numbers("s", -(2**63), 1)], made=["n", None]),
        graph_of([node("Expand", "x", "s")], [numbers("s", 1000, 3, 8, 8)]),
        graph_of([node("Cast", "x", to="y2") for _ in range(1)], []),
        graph_of([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)], []),
        graph_of(
            [
                node("Flatten", "x", to="f"),
                node("Transpose", "f", to="t", perm=[1, 0]),
                node("MatMul", "f", "t", to="y"),
            ],
            [],
            made=["n", None],
        ),
    ],
    ids=["one row", "no sample", "least number", "expand", "no type", "text", "samples by samples"],
)
def test_features_belong_to_samples(model: onnx.ModelProto) -> None:
    """A graph whose output is no set of features per sample is malformed, wherever that shows."""
    with pytest.raises(ProtocolError):
        parse(model).features(INPUTS)


class Unwell:
    """A library that fails with what it saw."""

    def run(self, *_: object) -> None:
        raise RuntimeError("idx=0.25 out of bounds in /home/me/node")


def test_a_failing_run_tells_nothing_of_the_data() -> None:
    """The library's words may hold numbers of samples; they stay in this node's log."""
    stem = replace(parse(good()), _session=cast("Any", Unwell()))
    with capture_logs() as logs, pytest.raises(ProtocolError) as raised:
        stem.features(INPUTS)
    assert raised.value.message == "the stem cannot be run on this node's data"
    assert "idx=0.25" in logs[0]["error"]


def test_what_a_library_says_of_a_graph_holds_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asker hears what is wrong with its graph, and in few words."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Mismatched data type: 7\n in /home/me/x.onnx at C:\\me " + "long " * 99)

    monkeypatch.setattr("qkt_p2p.synthesis.stem_graph.onnx.shape_inference.infer_shapes", fail)
    monkeypatch.setattr("qkt_p2p.synthesis.stem.onnxruntime.InferenceSession", fail)
    expected = "RuntimeError: Mismatched data type: 7 in at long long "
    for told, of in (
        (lambda: parse(good()), "the stem is no usable ONNX graph: "),
        (lambda: _session(cast("Any", SimpleNamespace(model=b""))), "the stem cannot be loaded: "),
    ):
        with pytest.raises(ProtocolError) as raised:
            told()
        assert raised.value.message.startswith(of + expected)
        assert len(raised.value.message) <= 240


def test_features_that_are_not_finite_are_no_features() -> None:
    """Overflow shows only when the graph runs."""
    nodes = [node("Exp", "x", to="a"), node("Exp", "a", to="b"), node("Exp", "b")]
    stem = parse(graph_of(nodes, []))
    with pytest.raises(ProtocolError, match="finite"):
        stem.features(INPUTS * 20)


@settings(deadline=None)
@given(at=st.integers(0, len(good().SerializeToString()) - 1), value=st.binary(min_size=0, max_size=4))
def test_any_damage_is_a_peers_fault(at: int, value: bytes) -> None:
    """Bytes that are changed or left out either still make a stem, or break the protocol or a limit."""
    data = good().SerializeToString()
    for damaged in (
        data[:at] + value + data[at + len(value) :],
        data[:at] + value + data[at + 1 :],
        data[:at],
    ):
        try:
            features = Stem.parse(damaged, input_shape=SHAPE).features(INPUTS[:3])
        except (ProtocolError, PeerRefusedError):
            continue
        assert np.isfinite(features).all()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_no_stem(data: bytes) -> None:
    """The empty file is none either."""
    with pytest.raises((ProtocolError, PeerRefusedError)):
        Stem.parse(data, input_shape=SHAPE)


def mixing() -> onnx.ModelProto:
    """A graph that takes the mean of all samples of a batch from each."""
    nodes = [node("ReduceMean", "x", "first", to="m", keepdims=1), node("Sub", "x", "m")]
    return graph_of(nodes, [numbers("first", 0)])


def test_samples_that_are_taken_alone_do_not_meet() -> None:
    """Whoever built a stem that compares samples learns nothing of one from the others."""
    data = mixing().SerializeToString()
    together = Stem.parse(data, input_shape=SHAPE).features(INPUTS)
    assert np.abs(together).max() > 0.1
    alone = Stem.parse(data, input_shape=SHAPE, alone=True)
    assert np.array_equal(alone.features(INPUTS), np.zeros((70, *SHAPE), np.float32))
    usual = good().SerializeToString()
    found = Stem.parse(usual, input_shape=SHAPE, alone=True).features(INPUTS)
    assert np.allclose(found, Stem.parse(usual, input_shape=SHAPE).features(INPUTS), atol=1e-6)


def test_a_stem_that_fails_on_one_sample_tells_nobody() -> None:
    """A number that is none does not end the whole; with a budget that sample counts for nothing."""
    nodes = [node("Sub", "x", "x", to="z"), node("Div", "z", "z")]
    data = graph_of(nodes, []).SerializeToString()
    with pytest.raises(ProtocolError, match="not finite"):
        Stem.parse(data, input_shape=SHAPE).features(INPUTS)
    assert np.isnan(Stem.parse(data, input_shape=SHAPE, alone=True).features(INPUTS)).all()
