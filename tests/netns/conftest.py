"""Fixtures of the tests with several hosts."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from tests.netns.homes import CLASSES, Homes, make_homes
from tests.netns.lan import Lan, remove_leftovers
from tests.netns.nodes import Network
from tests.netns.told import BETWEEN_HOSTS, BetweenHosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.netns.stopwatch import Stopwatch


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
    told = request.config.pluginmanager.get_plugin(BETWEEN_HOSTS)
    assert isinstance(told, BetweenHosts)
    return told.stopwatch
