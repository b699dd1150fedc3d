"""The medium `inversion`: inputs that are optimized from the classifier alone; no data is touched."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from qkt_p2p.datasets import first_of_each
from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import MAX_DRAWN_NUMBERS
from qkt_p2p.masking.probes import make_probes
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.medium import Part
from qkt_p2p.synthesis.targets import masked_targets, soft_answers
from qkt_p2p.wire.tensors import SyntheticBatch, as_levels, decode_batch, encode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qkt_p2p.models import Classifier
    from qkt_p2p.synthesis.medium import Holdings, Reading
    from qkt_p2p.types import ClassName, MediumName, ReportDone, Shape, TeachRequest

_MOST_PER_CLASS: Final = 200
_STEPS: Final = 200
_BATCH: Final = 128
_BATCH_NUMBERS: Final = 2**21
"""Numbers in a batch of inputs; a network makes a hundred times as many of them, which gradients keep."""
_LEARNING_RATE: Final = 0.05
_STATISTICS_WEIGHT: Final = 1.0
_SMOOTHNESS_WEIGHT: Final = 0.5


class Inversion:
    """Answers with inputs that the classifier takes for the mask's classes (DeepInversion, Yin 2020)."""

    name: Final[MediumName] = "inversion"
    of_features: Final = False
    seeded: Final = True

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportDone
    ) -> list[Part]:
        """Return at most 200 optimized inputs of each class; fewer where MAX_DRAWN_NUMBERS ends them.

        Raises PeerRefusedError without batch norms, and for a size that the model's inputs cannot take.
        """
        shape = request.input_shape
        # Before any work is done for it.
        adapt_inputs(np.empty((0, *holdings.classifier.input_shape), np.float32), shape)
        count = _affordable(request.samples_per_class, mask, shape)
        batch = inverted_batch(holdings.classifier, mask, count, seed=request.seed, report=report)
        inputs = adapt_inputs(batch.inputs, shape)
        step = max(1, holdings.chunk_bytes // (prod(shape) + 2 * len(mask)))
        cuts = [slice(start, start + step) for start in range(0, len(batch), step)]
        return [
            Part(encode_batch(as_levels(inputs[cut]), batch.targets[cut]), len(inputs[cut])) for cut in cuts
        ]

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return the inputs as they came, of each class the first ones that are affordable."""
        channels, height, width = reading.shape
        inputs, targets, labels = [], [], np.empty(0, np.int64)
        for part in parts:
            batch = decode_batch(part, input_shape=(channels, height, width), classes=classes)
            before, labels = len(labels), np.concatenate([labels, batch.targets.argmax(1)])
            first = first_of_each(labels, reading.count)
            # Of those that are left out nothing has to be remembered.
            labels, kept = labels[first], first[first >= before] - before
            inputs.append(batch.inputs[kept])
            targets.append(batch.targets[kept])
        return SyntheticBatch(np.concatenate(inputs), np.concatenate(targets), tuple(classes))


def inverted_batch(
    classifier: Classifier,
    mask: Sequence[ClassName],
    samples_per_class: int,
    *,
    seed: int,
    report: ReportDone,
) -> SyntheticBatch:
    """Return at most 200 inputs of each class of the mask, shuffled, with masked targets.

    All together are MAX_DRAWN_NUMBERS numbers at most. Raises PeerRefusedError where the classifier has no
    batch normalization, or not even one input of each class is affordable.
    """
    # A copy: the node may learn from this very model meanwhile, and hooks would see that, too.
    classifier = copy.deepcopy(classifier).eval()
    count = _affordable(samples_per_class, mask, classifier.input_shape)
    labels = np.repeat(np.arange(len(mask)), count)
    labels = np.random.default_rng(derived_seed(seed, "order")).permutation(labels)
    inputs = _inverted(classifier, mask, labels, seed=derived_seed(seed, "inversion"), report=report)
    answers = soft_answers(classifier, inputs, report)
    targets = masked_targets(answers, labels, classes=classifier.classes, mask=mask)
    return SyntheticBatch(inputs, targets, tuple(mask))


def _inverted(
    classifier: Classifier,
    mask: Sequence[ClassName],
    labels: np.ndarray,
    *,
    seed: int,
    report: ReportDone,
) -> np.ndarray:
    """Return inputs [n, C, H, W] in [0, 1] that `classifier` takes for the mask's classes `labels` [n]."""
    rows = torch.tensor([classifier.classes.index(name) for name in mask])[torch.from_numpy(labels)]
    inputs = make_probes(classifier.input_shape, len(labels), seed=seed)
    step = max(1, min(_BATCH, _BATCH_NUMBERS // prod(classifier.input_shape)))
    for first in range(0, len(labels), step):
        report(first, len(labels), "inverting the model")
        part = slice(first, first + step)
        # In their place: together they may take half a GiB.
        inputs[part] = _optimized(classifier, inputs[part], rows[part], report)
    inverted: np.ndarray = inputs.numpy()
    return inverted


def _affordable(count: int, mask: Sequence[ClassName], shape: Shape) -> int:
    """Return how many inputs [C, H, W] of each class to make where `count` were asked for, from 1.

    Raises PeerRefusedError where there is no memory for even one.
    """
    fitting = MAX_DRAWN_NUMBERS // (len(mask) * prod(shape))
    if fitting < 1:
        raise PeerRefusedError(f"inputs of {shape} of {len(mask)} classes are too many to be inverted")
    return min(count, _MOST_PER_CLASS, fitting)


def _optimized(classifier: Classifier, start: Tensor, rows: Tensor, report: ReportDone) -> Tensor:
    inputs = start.clamp(0.02, 0.98).logit().to(classifier.device).requires_grad_()
    rows = rows.to(classifier.device)
    optimizer = torch.optim.Adam([inputs], _LEARNING_RATE)
    with _statistics_distances(classifier) as distances:
        for step in range(_STEPS):
            distances.clear()
            images = inputs.sigmoid()
            loss = nn.functional.cross_entropy(classifier(images), rows)
            loss = loss + _STATISTICS_WEIGHT * torch.stack(distances).mean()
            loss = loss + _SMOOTHNESS_WEIGHT * _roughness(images)
            optimizer.zero_grad()
            loss.backward(inputs=[inputs])  # type: ignore[no-untyped-call]
            optimizer.step()
            # Each time: a report is where a cancellation is noticed, and a step may take seconds.
            report(step, _STEPS, f"inverting the model, loss {loss.item():.3f}")
    return inputs.detach().sigmoid().cpu()


@contextmanager
def _statistics_distances(classifier: Classifier) -> Iterator[list[Tensor]]:
    """Yield a list that each forward pass fills: how far the layers' statistics are from the trained."""
    distances: list[Tensor] = []

    def compare(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        (given,) = arguments
        axes = [axis for axis in range(given.ndim) if axis != 1]
        mean, variance = given.mean(axes), given.var(axes, unbiased=False)
        # In units of the trained deviation, so that all layers count alike.
        shift = (mean - layer.running_mean) ** 2 / (layer.running_var + layer.eps)
        spread = (variance / (layer.running_var + layer.eps) - 1) ** 2
        distances.append(shift.mean() + spread.clamp(max=4).mean())

    layers = [each for each in classifier.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if not layers:
        raise PeerRefusedError(
            "the medium inversion needs a model with batch normalization, this one has none"
        )
    handles = [layer.register_forward_pre_hook(compare) for layer in layers]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


def _roughness(images: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbours, the total variation per pixel."""
    differences = [images.diff(dim=axis).abs().mean() for axis in (2, 3) if images.shape[axis] > 1]
    return torch.stack(differences).sum() if differences else images.new_zeros(())
