"""Fixtures of the tests with several hosts, and what is told when they cannot run.

They need root and the command `ip`. Where either is missing each test counts as skipped, and the last
lines of the test run say so.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.homes import CLASSES, Homes, make_homes
from tests.netns.lan import Lan, remove_leftovers, why_not
from tests.netns.nodes import Network
from tests.netns.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE: Final = Path(__file__).parent


@dataclass(slots=True)
class _Told:
    """What the closing summary tells."""

    reason: str = ""
    absent: int = 0
    stopwatch: Stopwatch = field(default_factory=Stopwatch)


_TOLD: Final = pytest.StashKey[_Told]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TOLD] = _Told()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    reason = why_not() if ours else ""
    if reason:
        config.stash[_TOLD] = _Told(reason, len(ours))
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    told = config.stash[_TOLD]
    if told.absent:
        terminalreporter.section(
            f"{told.absent} TESTS BETWEEN HOSTS DID NOT RUN", sep="!", red=True, bold=True
        )
        terminalreporter.line(told.reason)
    if told.stopwatch.rows:
        terminalreporter.section("measured between hosts")
        for row in sorted(told.stopwatch.rows):
            terminalreporter.line(row)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Homes whose first model is trained, by daemons that meet nobody meanwhile."""
    remove_leftovers()
    return asyncio.run(
        _trained(make_homes(tmp_path_factory.mktemp("homes")), tmp_path_factory.mktemp("trained"))
    )


async def _trained(homes: Homes, folder: Path) -> Homes:
    with Lan() as lan:
        network = Network(lan, homes, folder)
        try:
            nodes = await network.start(*CLASSES, QKT_DISCOVERY_MDNS="false")
            for node in nodes:
                node.terminate()
            assert await asyncio.gather(*(node.ended() for node in nodes)) == [0] * len(nodes)
        finally:
            sys.stdout.write(await network.close())
    return Homes(folder)


@pytest.fixture
async def network(homes: Homes, tmp_path: Path) -> AsyncIterator[Network]:
    """A network without hosts; what its daemons logged is shown with a failure."""
    with Lan() as lan:
        network = Network(lan, homes, tmp_path)
        yield network
        sys.stdout.write(await network.close())


@pytest.fixture
def stopwatch(request: pytest.FixtureRequest) -> Stopwatch:
    """Holds tests to bounds; what it measures stands in the closing summary."""
    return request.config.stash[_TOLD].stopwatch
