"""What a query's data are made of: recipes, batches, models and stems of strangers."""

from __future__ import annotations

from functools import cache
from math import prod
from random import Random

import numpy as np
import onnx
from safetensors import SafetensorError
from safetensors.numpy import load, save

from qkt_p2p.errors import ConfigError, PeerError, PeerRefusedError, ProtocolError
from qkt_p2p.models import classifier_from_bytes, classifier_to_bytes
from qkt_p2p.models.classifier import build_classifier
from qkt_p2p.synthesis.medium import Reading
from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.synthesis.prototypes import Surroundings
from qkt_p2p.synthesis.stem import Stem
from qkt_p2p.synthesis.stem_graph import checked_graph
from qkt_p2p.types import ZSTD, ChunkInfo, ClassName, Shape, TeachOffer
from qkt_p2p.wire.encodings import decode_response, encode_chunks
from qkt_p2p.wire.prototypes import Prototype, encode_prototype
from qkt_p2p.wire.recipes import Recipe, encode_recipe
from qkt_p2p.wire.tensors import decode_batch, decode_targets, encode_batch, encode_targets
from tests.fuzz.formats import json_text, safetensors
from tests.fuzz.mutators import protobuf
from tests.fuzz.target import Target
from tests.synthesis.graphs import INPUTS, SHAPE, good, graph_of, node, numbers, weights

_SHAPE: Shape = (1, 2, 3)
_CLASSES = (ClassName("a"), ClassName("b"))
_DEVIATIONS = np.linspace(-1, 1, 18, dtype=np.float32).reshape(3, 6) ** 3
_READING = Reading(
    _SHAPE,
    low=0.0,
    high=1.0,
    samples_per_class=4,
    affordable=4,
    seed=1,
    own=Surroundings(_DEVIATIONS + np.float32(0.5), _DEVIATIONS),
)
_EVEN = np.full((4, 2), 0.5, np.float32)
_TENSORS = (b"F16", b"F32", b"U8", b"I8", b'"dtype":', b'"shape":[', b'"data_offsets":[0,', b"__metadata__")


def _recipe(column: int, *, components: int = 2, rank: int = 2) -> bytes:
    numbers_of_one = prod(_SHAPE)
    generator = np.random.default_rng(column)
    targets = np.full((components, 2), 0.2, np.float32)
    targets[:, column] = 0.8
    return encode_recipe(
        Recipe(
            mean=generator.random(numbers_of_one, np.float32),
            basis=generator.random((rank, numbers_of_one), np.float32),
            residual=generator.random(numbers_of_one, np.float32),
            weights=np.full(components, 1 / components, np.float32),
            means=generator.random((components, rank), np.float32),
            factors=np.tril(generator.random((components, rank, rank), np.float32)),
            targets=targets,
        )
    )


_OTHER_RECIPE = _recipe(1)
_PROTOTYPE = encode_prototype(Prototype(np.linspace(0, 1, 6, dtype=np.float32), 0.01))


def _drawn(data: bytes) -> None:
    """Decode a recipe or prototype and draw from it, as askers do: the sound give samples within bounds."""
    batch = Moments().read([data, _OTHER_RECIPE], _CLASSES, _READING)
    # No chunk is empty: an empty part is a recipe that did not come.
    assert batch.inputs.shape == (8 if data else 4, *_SHAPE)
    assert 0 <= batch.inputs.min() <= batch.inputs.max() <= 1
    assert np.isfinite(batch.targets).all()


def _batch(data: bytes) -> None:
    batch = decode_batch(data, input_shape=_SHAPE, classes=_CLASSES)
    assert 0 <= batch.inputs.min() <= batch.inputs.max() <= 1
    assert np.allclose(batch.targets.sum(1), 1, atol=1e-3)


def _targets(data: bytes) -> None:
    assert np.isfinite(decode_targets(data, samples=4, classes=_CLASSES)).all()


def _batches() -> list[bytes]:
    inputs = np.random.default_rng(0).random((4, *_SHAPE), np.float32)
    return [encode_batch(inputs, _EVEN), encode_batch((inputs * 255).astype(np.uint8), _EVEN)]


def _inflated(data: bytes) -> None:
    """Inflate a chunk that travelled compressed; its offer, of two bytes in front, says how large it is."""
    size, chunk = int.from_bytes(data[:2], "big"), data[2:]
    info = ChunkInfo(bytes(32), len(chunk), 1, plain_size=size)
    offer = TeachOffer("moments", 1, _CLASSES, (info,), encoding=ZSTD)
    (plain,) = decode_response(offer, {info.digest: chunk}, _CLASSES)
    assert len(plain) == (size or len(chunk))


def _compressed() -> list[bytes]:
    plain = [bytes(300), b"recipe " * 40, _recipe(0) * 2]
    _, travelled = encode_chunks(plain, [ZSTD])
    return [len(each).to_bytes(2, "big") + sent for each, sent in zip(plain, travelled, strict=True)]


@cache
def _models() -> list[bytes]:
    return [
        classifier_to_bytes(
            build_classifier(name, input_shape=(1, 4, 4), classes=_CLASSES, trained=_CLASSES, seed=0)
        )
        for name in ("mlp",)
    ]


def _model_file(data: bytes, random: Random) -> bytes:
    """Change the description within a model file, or anything else of it."""
    try:
        arrays = load(data)
        description = json_text(arrays["description"].tobytes(), random)
    except (SafetensorError, KeyError):
        return safetensors(data, random)
    if random.random() < 0.4:
        return safetensors(data, random)
    return save({**arrays, "description": np.frombuffer(description, np.uint8)})


def _stem(data: bytes) -> None:
    """Run whatever is let through; it gives finite features, or says why not."""
    features = Stem.parse(data, input_shape=SHAPE).features(INPUTS[:2], seconds=5.0)
    assert len(features) == 2
    assert np.isfinite(features).all()


@cache
def _stems() -> list[bytes]:
    graphs = [
        good(),
        graph_of(
            [node("Flatten", "x", to="f"), node("Gemm", "f", "w")], [weights("w", 192, 5)], made=["n", None]
        ),
        graph_of([node("Reshape", "x", "s")], [numbers("s", 0, -1)], made=["n", None]),
        graph_of(
            [node("BatchNormalization", "x", "g", "g", "g", "v", to="b"), node("GlobalAveragePool", "b")],
            [weights("g", 3), onnx.numpy_helper.from_array(np.ones(3, np.float32), "v")],
        ),
        graph_of([node("Concat", "x", "x", to="c", axis=1), node("Transpose", "c", perm=[0, 2, 3, 1])], []),
        graph_of(
            [node("ReduceMean", "x", "a", to="m", keepdims=0), node("Gather", "m", "i", axis=1)],
            [numbers("a", 3), numbers("i", 0, 2)],
            made=["n", None, None],
        ),
    ]
    return [graph.SerializeToString() for graph in graphs]


TARGETS = {
    "recipe": Target(
        _drawn,
        (PeerError,),
        lambda: [_recipe(0), _recipe(0, components=1, rank=1), _PROTOTYPE],
        safetensors,
        _TENSORS,
    ),
    "batch": Target(_batch, (ProtocolError,), _batches, safetensors, _TENSORS),
    "targets": Target(_targets, (ProtocolError,), lambda: [encode_targets(_EVEN)], safetensors, _TENSORS),
    "compressed": Target(_inflated, (ProtocolError,), _compressed, dictionary=(b"\x28\xb5\x2f\xfd",)),
    "model": Target(classifier_from_bytes, (ConfigError,), _models, _model_file, _TENSORS),
    "stem-check": Target(
        lambda data: checked_graph(data, input_shape=SHAPE),
        (ProtocolError, PeerRefusedError),
        _stems,
        protobuf(onnx.ModelProto),
    ),
    "stem-run": Target(_stem, (ProtocolError, PeerRefusedError), _stems, protobuf(onnx.ModelProto)),
}
