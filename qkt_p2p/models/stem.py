"""A classifier's stem as an ONNX graph: what the asker of a query sends, so that others can run it.

The graph holds no names of this machine and no code; `qkt_p2p.synthesis.stem` checks and runs it.
"""

from __future__ import annotations

import copy
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_STEM_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from qkt_p2p.models.classifier import Classifier

_FEW: Final = 256
"""Numbers in a tensor that is not worth storing by halves."""


def export_stem(classifier: Classifier, cut: int) -> bytes:
    """Return the blocks before `cut` in evaluation mode: inputs [n, C, H, W] -> features [n, d...].

    The same weights give the same bytes. Weights are stored as float16 where that holds them: features stay
    within 1 %. Raises ConfigError where a block of the owner's own module cannot be written as a graph, and
    for a stem that is larger than peers take.
    """
    stem = copy.deepcopy(classifier.stem(cut)).cpu().eval()
    try:
        with _quiet():
            model = _with_plain_reshapes(_exported(stem, classifier.input_shape))
    except Exception as error:
        raise ConfigError(
            f"the first {cut} blocks of the model cannot be written as an ONNX graph: {error}"[:500],
            fix="use another cut or medium, or plainer layers",
        ) from error
    data = bytes(_with_halves(model).SerializeToString(deterministic=True))
    if len(data) > MAX_STEM_BYTES:
        raise ConfigError(
            f"the first {cut} blocks of the model take {len(data)} bytes, peers take {MAX_STEM_BYTES}",
            fix="use a smaller cut or another medium",
        )
    return data


def _exported(stem: nn.Module, shape: tuple[int, ...]) -> onnx.ModelProto:
    program = torch.onnx.export(
        stem,
        # Two samples: at one, the exporter would take the number for a constant.
        (torch.zeros(2, *shape),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        input_names=["inputs"],
        output_names=["features"],
        verbose=False,
    )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling that torchvision is absent, and from warning of its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        log.setLevel(level)


def _with_plain_reshapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with numbers where a Reshape would ask for the shape of another value when it runs.

    The exporter writes group normalization so, and no teacher takes the operator Shape. All sides but the
    number of samples have to be known, and that one follows from the others.
    """
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info
    }
    for node in [node for node in graph.node if node.op_type == "Shape"]:
        name, sides = node.output[0], shapes.get(node.input[0], [])[1:]
        whole = {attribute.name: attribute.i for attribute in node.attribute} in ({}, {"start": 0})
        if whole and sides and all(sides) and _uses(graph, name) == {("Reshape", 1)}:
            graph.initializer.append(numpy_helper.from_array(np.array([-1, *sides], np.int64), name))
            graph.node.remove(node)
    return model


def _uses(graph: onnx.GraphProto, name: str) -> set[tuple[str, int]]:
    """Return which operators take a value, and as which of their inputs."""
    return {(node.op_type, at) for node in graph.node for at, taken in enumerate(node.input) if taken == name}


def _with_halves(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the bare graph, large weights by halves: the exporter's notes name files of this machine."""
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    bare.graph.name = "stem"
    taken = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        # Peers refuse weights that nothing takes.
        if tensor.name in taken:
            _add_weights(bare.graph, tensor)
    for node in model.graph.node:
        bare.graph.node.add(
            op_type=node.op_type, input=node.input, output=node.output, attribute=node.attribute
        )
    for mine, exported in ((bare.graph.input, model.graph.input), (bare.graph.output, model.graph.output)):
        for value in exported:
            mine.add(name=value.name, type=value.type).type.tensor_type.shape.dim[0].dim_param = "n"
    return bare


def _add_weights(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> None:
    array = numpy_helper.to_array(tensor)
    fits = array.dtype == np.float32 and np.abs(array).max(initial=0) <= np.finfo(np.float16).max
    if not fits or array.size < _FEW:
        graph.initializer.append(numpy_helper.from_array(array, tensor.name))
        return
    half = f"{tensor.name}:half"
    graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), half))
    graph.node.append(onnx.helper.make_node("Cast", [half], [tensor.name], to=onnx.TensorProto.FLOAT))
