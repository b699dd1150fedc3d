"""Small stems, sound and unsound."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (3, 8, 8)
INPUTS = np.random.default_rng(0).random((70, *SHAPE), np.float32)
FLOAT = TensorProto.FLOAT


def weights(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def graph_of(
    nodes: list[onnx.NodeProto],
    initializers: list[TensorProto],
    *,
    shape: list[Any] | None = None,
    made: list[Any] | None = None,
) -> onnx.ModelProto:
    """Return a model from "x" to the last node's first output."""
    source = helper.make_tensor_value_info("x", FLOAT, shape or ["n", *SHAPE])
    result = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, made or ["n", None, None, None])
    graph = helper.make_graph(nodes, "stem", [source], [result], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(kind: str, *inputs: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [to], **attributes)


def good() -> onnx.ModelProto:
    """A convolution with a rectifier and a pool: 3x8x8 -> 4x4x4."""
    nodes = [
        node("Conv", "x", "w", to="a", pads=[1, 1, 1, 1]),
        node("Relu", "a", to="b"),
        node("MaxPool", "b", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    return graph_of(nodes, [weights("w", 4, 3, 3, 3)])
