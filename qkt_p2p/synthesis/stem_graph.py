"""What may be in a stem that a stranger sent, checked before any of it is run.

A graph is data. Operators are chosen from a list without control flow, every shape is inferred for the
batch that will run, and memory and multiplications are counted from these shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from qkt_p2p.errors import PeerError, PeerRefusedError, ProtocolError
from qkt_p2p.limits import (
    MAX_STEM_BATCH,
    MAX_STEM_BATCH_VALUES,
    MAX_STEM_BYTES,
    MAX_STEM_NODES,
    MAX_STEM_NUMBER,
    MAX_STEM_OPERATIONS,
    MAX_STEM_VALUES,
    MAX_STEM_WEIGHTS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qkt_p2p.types import Shape

    Shapes = dict[str, tuple[int, ...]]

_REASON_CHARACTERS: Final = 200
_OPSETS: Final = range(13, 26)
_OPERATORS: Final = {
    *("Add", "Sub", "Mul", "Div", "Sqrt", "Exp", "Erf", "Clip", "Cast", "Identity"),
    *("Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "LRN"),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish"),
    *("Tanh", "Softplus", "Softmax"),
    *("Concat", "Flatten", "Gather", "GatherND", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
}
_ATTRIBUTES: Final = {
    AttributeProto.FLOAT,
    AttributeProto.INT,
    AttributeProto.STRING,
    AttributeProto.FLOATS,
    AttributeProto.INTS,
}
_WEIGHTS: Final = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64}


@dataclass(frozen=True, slots=True, eq=False)
class StemGraph:
    """A graph for exactly `batch` samples: `input_name` [batch, C, H, W] -> [batch, *feature_shape]."""

    model: bytes
    batch: int
    input_name: str
    feature_shape: tuple[int, ...]


def checked_graph(data: bytes, *, input_shape: Shape, alone: bool = False) -> StemGraph:
    """Return the graph that `data` holds, which has to take inputs [n, *input_shape], one at once if `alone`.

    Raises ProtocolError where it is malformed or holds what no stem may, PeerRefusedError where it is
    beyond the limits of this node, and nothing else.
    """
    if len(data) > MAX_STEM_BYTES:
        raise PeerRefusedError(f"the stem takes {len(data)} bytes, allowed are {MAX_STEM_BYTES}")
    try:
        return _checked(onnx.load_model_from_string(data), input_shape, alone=alone)
    except PeerError:
        raise
    # The library raises whatever it comes upon in a malformed graph.
    except Exception as error:
        raise ProtocolError(f"the stem is no usable ONNX graph: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return what a library says of an asker's graph, without what may be a path on this machine."""
    words = f"{type(error).__name__}: {error}".split()
    return " ".join(word for word in words if not {"/", "\\"} & set(word))[:_REASON_CHARACTERS]


def _checked(model: onnx.ModelProto, input_shape: Shape, *, alone: bool) -> StemGraph:
    _check_parts(model)
    _check_ends(model.graph, input_shape)
    one, shapes = _with_batch(model, 1)
    batch = _batch_within_limits(one, shapes, 1 if alone else MAX_STEM_BATCH)
    fixed, batch_shapes = _with_batch(model, batch)
    source, result = fixed.graph.input[0].name, fixed.graph.output[0].name
    if batch_shapes[result][1:] != shapes[result][1:] or _values(fixed, batch_shapes) > MAX_STEM_BATCH_VALUES:
        raise ProtocolError("the stem's values grow faster than the number of samples")
    return StemGraph(fixed.SerializeToString(), batch, source, shapes[result][1:])


def _check_parts(model: onnx.ModelProto) -> None:
    """Raise where the graph holds anything but listed operators and plain, finite weights that they take."""
    graph = model.graph
    if [domain.domain or "ai.onnx" for domain in model.opset_import] != ["ai.onnx"]:
        raise ProtocolError("the stem uses operators beyond ONNX's own")
    if model.opset_import[0].version not in _OPSETS:
        raise ProtocolError(f"the stem is written in operator set {model.opset_import[0].version}")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise ProtocolError("the stem holds functions, training information or sparse weights")
    if not 1 <= len(graph.node) <= MAX_STEM_NODES:
        raise PeerRefusedError(f"the stem has {len(graph.node)} operators, allowed are 1 to {MAX_STEM_NODES}")
    if len(graph.initializer) > MAX_STEM_WEIGHTS:
        raise PeerRefusedError(
            f"the stem has {len(graph.initializer)} tensors of weights, allowed are {MAX_STEM_WEIGHTS}"
        )
    for node in graph.node:
        if node.op_type not in _OPERATORS or node.domain not in {"", "ai.onnx"}:
            operator = ":".join(filter(None, (node.domain, node.op_type)))
            raise ProtocolError(f"the stem uses the operator {operator}"[:200])
        _check_attributes(node.attribute, cast=node.op_type == "Cast")
    taken = {name for node in graph.node for name in node.input}
    for tensor in graph.initializer:
        if tensor.name not in taken:
            raise ProtocolError(f"no operator of the stem takes the weights {tensor.name}"[:200])
        _check_weights(tensor)


def _check_attributes(attributes: Iterable[AttributeProto], *, cast: bool) -> None:
    for attribute in attributes:
        if cast and attribute.name == "to" and attribute.i != TensorProto.FLOAT:
            raise ProtocolError("the stem casts to another type than float32")
        if attribute.type not in _ATTRIBUTES:
            raise ProtocolError(f"the stem's attribute {attribute.name} is no number or text"[:200])
        if any(abs(number) > MAX_STEM_NUMBER for number in (attribute.i, *attribute.ints)):
            raise ProtocolError(f"the stem's attribute {attribute.name} is out of range"[:200])


def _check_weights(tensor: TensorProto) -> None:
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise ProtocolError("the stem refers to another file")
    if tensor.data_type not in _WEIGHTS:
        raise ProtocolError(f"the stem's weights are of type {tensor.data_type}")
    if len(tensor.dims) > 8 or not all(0 <= side <= MAX_STEM_NUMBER for side in tensor.dims):
        raise ProtocolError("the stem's weights are of a shape out of range")
    array = numpy_helper.to_array(tensor)
    if not np.isfinite(array).all():
        raise ProtocolError("the stem's weights are not finite")
    if array.dtype == np.int64 and ((array < -MAX_STEM_NUMBER) | (array > MAX_STEM_NUMBER)).any():
        raise ProtocolError("the stem's whole numbers are out of range")


def _check_ends(graph: onnx.GraphProto, input_shape: Shape) -> None:
    """Raise unless there is one input [n, *input_shape] and one output [n, ...], n left open."""
    if (len(graph.input), len(graph.output)) != (1, 1):
        raise ProtocolError(f"the stem has {len(graph.input)} inputs and {len(graph.output)} outputs")
    for value in (graph.input[0], graph.output[0]):
        tensor = value.type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT or not tensor.shape.dim:
            raise ProtocolError("the stem's input and output have to be of type float32 and some shape")
        if tensor.shape.dim[0].HasField("dim_value"):
            raise ProtocolError("the stem takes a fixed number of samples")
    found = tuple(dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[1:])
    if found != input_shape:
        raise ProtocolError(f"the stem takes inputs of {found}, the data has {input_shape}")


def _batch_within_limits(model: onnx.ModelProto, shapes: Shapes, most: int) -> int:
    """Return how many samples may run at once, `most` at most, by the shapes for one.

    Raises PeerRefusedError for none.
    """
    operations = sum(_operations(node, shapes) for node in model.graph.node)
    if operations > MAX_STEM_OPERATIONS:
        raise PeerRefusedError(
            f"the stem takes {operations} multiplications a sample, allowed are {MAX_STEM_OPERATIONS}"
        )
    values = _values(model, shapes)
    if values > MAX_STEM_VALUES:
        raise PeerRefusedError(f"the stem makes {values} numbers of a sample, allowed are {MAX_STEM_VALUES}")
    return min(most, MAX_STEM_BATCH_VALUES // values)


def _with_batch(model: onnx.ModelProto, batch: int) -> tuple[onnx.ModelProto, Shapes]:
    """Return the graph for exactly `batch` samples, and the shape of each of its values.

    What the sender says of shapes within the graph is dropped: inference alone decides.
    """
    fixed = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    fixed.graph.CopyFrom(model.graph)
    del fixed.graph.value_info[:]
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    for dim in fixed.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    onnx.checker.check_model(fixed)
    graph = onnx.shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    made = {name for node in graph.node for name in node.output if name}
    if not made <= shapes.keys() or not all(min(shapes[name], default=0) >= 1 for name in made):
        raise ProtocolError("the stem holds values whose shape depends on more than the input's")
    if len(shapes[graph.output[0].name]) < 2 or shapes[graph.output[0].name][0] != batch:
        raise ProtocolError("the stem does not make one set of features of each sample")
    return fixed, shapes


def _values(model: onnx.ModelProto, shapes: Shapes) -> int:
    """Return how many numbers the graph makes, over all its nodes."""
    return sum(prod(shapes[name]) for node in model.graph.node for name in node.output if name)


def _operations(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Return a bound on the multiplications of a node, by its inferred shapes."""
    made, read = (sum(prod(shapes[name]) for name in names if name) for names in (node.output, node.input))
    match node.op_type:
        case "Conv":
            return made * prod(shapes[node.input[1]][1:])
        case "Gemm" | "MatMul":
            return made * max(shapes[node.input[0]])
        case "AveragePool" | "MaxPool" | "LRN":
            window = [attribute for attribute in node.attribute if attribute.name in {"kernel_shape", "size"}]
            return made * prod(prod(attribute.ints) * max(1, attribute.i) for attribute in window)
    return made + read
