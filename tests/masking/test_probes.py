"""Synthetic probes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from qkt_p2p.masking.probes import Probes, make_probes
from qkt_p2p.types import Shape


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 20), (1, 1, 30)])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_probes_are_inputs(shape: Shape, count: int) -> None:
    """Every probe is a finite input in [0, 1], and no two are alike."""
    probes = make_probes(shape, count, seed=3)
    assert probes.shape == (count, *shape)
    assert torch.isfinite(probes).all()
    assert 0 <= probes.min() <= probes.max() <= 1
    assert len({tuple(probe) for probe in probes.flatten(1).tolist()}) == count


def test_probes_follow_from_the_seed() -> None:
    """Asker and teacher draw the same probes; a seed of 64 bits is a seed."""
    one, two, other = (make_probes((1, 8, 8), 16, seed=seed) for seed in (2**64 - 1, 2**64 - 1, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("parts", [(0, 64), (0, 1, 7, 8, 40, 64), (3, 5), (13, 61), (9, 9)])
def test_a_part_of_the_probes_is_as_in_all_of_them(parts: tuple[int, ...]) -> None:
    """Wherever they are parted, and whatever of them is not made."""
    whole, some = make_probes((1, 8, 8), 64, seed=3), Probes((1, 8, 8), 64, seed=3)
    made = [some.made(start, stop) for start, stop in pairwise(parts)]
    assert torch.equal(torch.cat(made), whole[parts[0] : parts[-1]])


def test_probes_have_structure() -> None:
    """Neighbouring pixels resemble each other far more than in noise, and half the probes have two levels."""
    probes = make_probes((1, 16, 16), 120, seed=0)
    steps = (probes[..., 1:] - probes[..., :-1]).square().mean()
    assert steps < probes.var() / 2
    two_levels = [len(set(probe.flatten().tolist())) <= 4 for probe in probes.round(decimals=3)]
    assert 40 <= sum(two_levels) <= 80
