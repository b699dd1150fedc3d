"""Three small nodes on digits, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from qkt_bench.federation import Federation, Federations
from qkt_bench.plan import FederationPlan, Partition

Build = Callable[..., Federation]

PATHOLOGICAL = Partition("pathological", 3)
DIRICHLET = Partition("dirichlet", 0.5)


def small_plan(partition: Partition = PATHOLOGICAL, *, samples: int = 40) -> FederationPlan:
    return FederationPlan("digits", 3, partition, "mlp", samples, test_samples=20)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Returns the federation of a partition and a seed; equal ones share their models."""
    folder = tmp_path_factory.mktemp("models")

    def built(partition: Partition = PATHOLOGICAL, *, seed: int = 0) -> Federation:
        plan = small_plan(partition)
        return Federations(plan, folder, reference_seed=seed, say=lambda _: None).of(seed)

    return built


@pytest.fixture(scope="session")
def federation(build: Build) -> Federation:
    return build()
