"""What every test of the fuzzing knows: the names of all targets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.fuzz.target import families, targets_of

NAMES = [name for family in families() for name in targets_of(family)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes a `target_name` for every target."""
    if "target_name" in metafunc.fixturenames:
        metafunc.parametrize("target_name", NAMES)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep what refusals log from being written out, which takes longer than the refusals."""
    with structlog.testing.capture_logs():
        yield
