"""The medium `moments`: recipes of the inputs themselves; nothing of the asker's model travels."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.errors import PeerError, PeerRefusedError, ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.bank import Bank
from qkt_p2p.synthesis.medium import Part
from qkt_p2p.synthesis.prototypes import CLEAR, draw_of_prototype
from qkt_p2p.synthesis.recipes import USUAL_RANK, draw
from qkt_p2p.wire.prototypes import decode_prototype, is_prototype
from qkt_p2p.wire.recipes import decode_recipe
from qkt_p2p.wire.tensors import SyntheticBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from qkt_p2p.synthesis.medium import Holdings, Reading
    from qkt_p2p.types import ClassName, MediumName, ReportDone, TeachRequest


_REST_BYTES: Final = 64 * 1024
"""Of a recipe, all that does not grow with a sample's numbers: 28 KiB at most."""


class Moments:
    """Answers with one recipe for each class of the mask, in the mask's order."""

    name: Final[MediumName] = "moments"
    of_features: Final = False
    seeded: Final = False

    def answer(
        self, holdings: Holdings, request: TeachRequest, mask: Sequence[ClassName], report: ReportDone
    ) -> list[Part]:
        """Return the recipes of the inputs, brought to the asker's size."""
        shape = request.input_shape
        bank = Bank(
            holdings,
            space=f"inputs {shape}",
            numbers=prod(shape),
            rank=affordable_rank(request, prod(shape)),
            enter=partial(adapt_inputs, shape=shape),
        )
        return recipe_parts(bank, mask, request, report)

    def read(self, parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
        """Return samples drawn from the recipes."""
        return drawn_batch(parts, classes, reading)


def affordable_rank(request: TeachRequest, numbers: int) -> int:
    """Return the most axes that the asker wants and that fit into one chunk, for samples of d `numbers`.

    Raises PeerRefusedError where not even one fits.
    """
    return min(request.rank or USUAL_RANK, USUAL_RANK, fitting_axes(numbers))


def fitting_axes(numbers: int) -> int:
    """Return how many axes of d `numbers` fit into one chunk; raises PeerRefusedError where not even one."""
    fitting = (MAX_CHUNK_BYTES - 2 * numbers - _REST_BYTES) // numbers
    if fitting < 1:
        raise PeerRefusedError(f"samples of {numbers} numbers are too large to be described")
    return fitting


def recipe_parts(
    bank: Bank, mask: Sequence[ClassName], request: TeachRequest, report: ReportDone
) -> list[Part]:
    """Return one part for each class of the mask, in its order."""
    parts = []
    for done, name in enumerate(mask):
        report(done, len(mask), f"describing {name}")
        parts.append(Part(bank.description(name, mask, report), request.samples_per_class))
    return parts


def drawn_batch(parts: Sequence[bytes], classes: Sequence[ClassName], reading: Reading) -> SyntheticBatch:
    """Return equally many samples of each class whose recipe came, drawn from it; raises as `Medium.read`.

    Targets are over the classes that came alone, as if nobody had asked for the others.
    """
    if len(parts) != len(classes):
        raise ProtocolError(f"{len(parts)} recipes came for {len(classes)} classes")
    came = [column for column, part in enumerate(parts) if part]
    if not came:
        raise ProtocolError("no recipe came")
    inputs, targets = [], []
    for column in came:
        part, name = parts[column], classes[column]
        seed = derived_seed(reading.seed, "draw", name, part.hex())
        drawn, its_targets = _drawn(part, column, classes, reading, seed)
        largest = float(np.abs(drawn).max())
        if not largest <= reading.furthest:
            raise ProtocolError(
                f"the recipe of {name} makes numbers of up to {largest:.3g}, nothing like this node's own: "
                f"up to {reading.furthest:.3g} are believed"
            )
        inputs.append(drawn)
        targets.append(its_targets)
    samples = np.concatenate(inputs).reshape(-1, *reading.shape)
    masked = np.concatenate(targets)
    if len(came) < len(classes):
        masked = masked[:, came]
        masked /= masked.sum(1, keepdims=True)
    lifelike = not any(is_prototype(parts[column]) for column in came)
    return SyntheticBatch(samples, masked, tuple(classes[column] for column in came), lifelike)


def _drawn(
    part: bytes, column: int, classes: Sequence[ClassName], reading: Reading, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return samples [count, d] of the class at `column` and their targets; raises as `Medium.read`."""
    numbers = prod(reading.shape)
    if is_prototype(part):
        prototype = decode_prototype(part, numbers=numbers)
        if not (clearness := reading.own.clearness(prototype)) >= CLEAR:
            raise PeerError(
                f"what it says of {classes[column]} is no more than noise ({clearness:.2f} times as much): "
                "its [privacy] release_epsilon is small for the samples it has"
            )
        samples = draw_of_prototype(prototype, reading, seed=seed)
        return samples, np.eye(len(classes), dtype=np.float32)[np.full(len(samples), column)]
    recipe = decode_recipe(part, numbers=numbers, classes=classes)
    if (recipe.targets.argmax(1) != column).any():
        raise ProtocolError(f"the recipe of {classes[column]} has targets of another class")
    return draw(
        recipe,
        reading.count,
        low=reading.low,
        high=reading.high,
        deviations=reading.own.deviations,
        seed=seed,
    )
