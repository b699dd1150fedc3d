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
            model = _exported(stem, classifier.input_shape)
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
