"""Inputs with labels, checked once on the way in so that nothing later has to check again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.limits import MAX_CLASSES, MAX_INPUT_ELEMENTS, MAX_SIDE
from qkt_p2p.types import ClassName, Shape, parse_class_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Inputs = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
_SPLIT_SEED = 0
_TEST_FRACTION = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class LabelledData:
    """Inputs, float32 [n, C, H, W] in [0, 1], and labels, int64 [n], that index into `classes`.

    `classes` is a label space: it may name classes of which there is no sample. Raises ConfigError
    where the arrays do not fit together.
    """

    inputs: Inputs
    labels: Labels
    classes: tuple[ClassName, ...]

    def __post_init__(self) -> None:
        check_classes(self.classes, "the data")
        if self.inputs.ndim != 4 or self.inputs.dtype != np.float32:
            raise ConfigError(f"inputs are {self.inputs.dtype} {self.inputs.shape}, not float32 [n, C, H, W]")
        check_shape(self.input_shape, "the data")
        if self.labels.shape != (len(self.inputs),) or self.labels.dtype != np.int64:
            raise ConfigError(
                f"{len(self.inputs)} inputs have labels {self.labels.dtype} {self.labels.shape}"
            )
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ConfigError(
                f"labels are {self.labels.min()} to {self.labels.max()}, classes {len(self.classes)}"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width of one input."""
        _, channels, height, width = self.inputs.shape
        return channels, height, width

    @property
    def counts(self) -> dict[ClassName, int]:
        """Number of samples of every class of the label space."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    @property
    def present(self) -> tuple[ClassName, ...]:
        """The classes of which there are samples, in label order."""
        return tuple(name for name, count in self.counts.items() if count)

    def select(self, indices: npt.NDArray[np.int64]) -> LabelledData:
        """Return the samples at `indices`, in that order, in the same label space."""
        return LabelledData(self.inputs[indices], self.labels[indices], self.classes)

    def of_class(self, name: ClassName) -> Inputs:
        """Return the inputs of one class; none where the label space lacks it."""
        label = self.classes.index(name) if name in self.classes else -1
        inputs: Inputs = self.inputs[self.labels == label]
        return inputs

    def distinct(self) -> LabelledData:
        """Return the first of all samples of equal inputs, in order."""
        digests = self._digests()
        first = {digest: at for at, digest in reversed(list(enumerate(digests)))}
        return self.select(np.array(sorted(first.values()), np.int64))

    def without(self, other: LabelledData) -> LabelledData:
        """Return the samples whose inputs `other` does not hold, whatever their labels, in order."""
        held = set(other._digests())
        kept = [at for at, digest in enumerate(self._digests()) if digest not in held]
        return self.select(np.array(kept, np.int64))

    def _digests(self) -> list[bytes]:
        return [chunk_digest(sample.tobytes()) for sample in self.inputs]

    def restrict(
        self, classes: Collection[ClassName], per_class: int | None = None, *, seed: int
    ) -> LabelledData:
        """Return at most `per_class` samples (all where None) of each of `classes`; the label space stays.

        The order of the samples stays too. Raises ConfigError for a class outside the label space.
        """
        if missing := [name for name in classes if name not in self.classes]:
            raise ConfigError(
                f"the data has no class {', '.join(missing)}", fix=f"choose among {', '.join(self.classes)}"
            )
        generator = np.random.default_rng(seed)
        chosen = [
            generator.permutation(np.flatnonzero(self.labels == label))[:per_class]
            for label, name in enumerate(self.classes)
            if name in classes
        ]
        return self.select(np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a node learns from, and what its owner measures on; both in one label space."""

    train: LabelledData
    test: LabelledData

    def __post_init__(self) -> None:
        if self.train.classes != self.test.classes:
            raise ConfigError("the training and test data name different classes")
        if self.train.input_shape != self.test.input_shape:
            raise ConfigError(
                f"training inputs are {self.train.input_shape}, test inputs {self.test.input_shape}",
                fix="bring both to one size",
            )


def check_classes(classes: Sequence[str], where: str) -> tuple[ClassName, ...]:
    """Return `classes` as class names; raises ConfigError, naming `where`, for bad, repeated or too many."""
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise ConfigError(f"{where} has {len(classes)} classes, allowed are 1 to {MAX_CLASSES}")
    try:
        names = tuple(parse_class_name(name) for name in classes)
    except UsageError as error:
        raise ConfigError(f"{where}: {error.message}", fix=error.fix) from error
    if len(set(names)) < len(names):
        raise ConfigError(f"{where} names a class twice: {', '.join(names)[:200]}")
    return names


def check_shape(shape: Shape, where: str) -> None:
    """Raise ConfigError, naming `where`, for inputs beyond the caps of limits.py."""
    elements = shape[0] * shape[1] * shape[2]
    if min(shape) < 1 or max(shape) > MAX_SIDE or elements > MAX_INPUT_ELEMENTS:
        raise ConfigError(
            f"{where}: inputs of shape {shape} are too large (side {MAX_SIDE}, all {MAX_INPUT_ELEMENTS})",
            fix="scale the inputs down",
        )


def labelled(
    inputs: npt.NDArray[Any], labels: npt.NDArray[Any], classes: Sequence[str], *, where: str
) -> LabelledData:
    """Return raw arrays as LabelledData, or raise ConfigError naming `where`.

    Inputs are [n, H, W], or [n, H, W, C] with at most 4 channels; labels [n] or [n, 1] are whole numbers.
    Unsigned integers are divided by their full scale; floats have to lie in [0, 1] already.
    """
    names = check_classes(classes, where)
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ConfigError(f"{where} holds no samples", fix="check the path and the file")
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != len(inputs):
        raise ConfigError(f"{where} has {len(inputs)} inputs but {len(labels)} labels")
    if labels.dtype.kind not in "iu":
        raise ConfigError(f"{where} has labels of type {labels.dtype}, not integers")
    outside = (labels < 0) | (labels >= len(names))
    if outside.any():
        raise ConfigError(f"{where}: label {labels[outside][0]} has no class name ({len(names)} classes)")
    scaled = _scaled(_channels_first(inputs, where), where)
    return LabelledData(scaled, labels.astype(np.int64), names)


def _channels_first(inputs: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """Return images [n, H, W] or [n, H, W, C] as [n, C, H, W]; raises ConfigError for any other shape."""
    if inputs.ndim == 3:
        return inputs[:, None]
    if inputs.ndim == 4 and inputs.shape[3] <= 4:
        return inputs.transpose(0, 3, 1, 2)
    raise ConfigError(
        f"{where}: inputs of shape {inputs.shape} are not [n, height, width] or [n, height, width, channels]",
        fix="store images with at most 4 channels, last",
    )


def _scaled(inputs: npt.NDArray[Any], where: str) -> Inputs:
    check_shape((inputs.shape[1], inputs.shape[2], inputs.shape[3]), where)
    if inputs.dtype in _FULL_SCALE:
        scaled = inputs.astype(np.float32) / np.float32(_FULL_SCALE[inputs.dtype])
    elif inputs.dtype.kind == "f":
        with np.errstate(over="ignore"):
            scaled = inputs.astype(np.float32)
    else:
        raise ConfigError(
            f"{where} has inputs of type {inputs.dtype}", fix="store uint8, uint16 or float inputs"
        )
    if not np.isfinite(scaled).all():
        raise ConfigError(f"{where} holds NaN or infinite inputs", fix="remove or repair these samples")
    low, high = float(scaled.min()), float(scaled.max())
    if low < 0 or high > 1:
        raise ConfigError(f"{where}: inputs reach from {low:g} to {high:g}", fix="scale them to [0, 1]")
    if low == high:
        raise ConfigError(f"{where}: every input is the constant {low:g}; there is nothing to learn from")
    return np.ascontiguousarray(scaled)


def first_of_each(labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return where in `labels` [n] the first `count` of each kind stand, in order."""
    by_label = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_label], labels[by_label])
    first: npt.NDArray[np.int64] = np.sort(by_label[np.arange(len(labels)) - starts < count])
    return first


def split_holdout(data: LabelledData, fraction: float, *, seed: int) -> tuple[LabelledData, LabelledData]:
    """Return (rest, holdout): `fraction` of each class, rounded, is held out, but never its last sample.

    Held out samples that the rest holds, too, are left out: they would measure what was learned by heart.
    """
    indices = stratified_split(data.labels, len(data.classes), fraction, np.random.default_rng(seed))
    rest, held = (data.select(part) for part in indices)
    return rest, held.without(rest)


def stratified_split(
    labels: Labels, classes: int, fraction: float, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ascending indices (rest, holdout) of labels [n] below `classes`, as `split_holdout` splits."""
    held = [np.empty(0, np.int64)]
    for label in range(classes):
        indices = generator.permutation(np.flatnonzero(labels == label))
        held.append(indices[: min(round(len(indices) * fraction), max(len(indices) - 1, 0))])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def with_test_quarter(data: LabelledData) -> Dataset:
    """Return data of a source that names no test data: a fixed stratified quarter of it is that."""
    return Dataset(*split_holdout(data, _TEST_FRACTION, seed=_SPLIT_SEED))
