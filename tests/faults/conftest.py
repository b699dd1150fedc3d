"""One federation for all tests of faults; each test has teachers, ways and a journal of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.arena import Arena
from tests.faults.federation import Members


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return Members.found(tmp_path_factory.mktemp("members"))


@pytest.fixture
async def arena(members: Members, tmp_path: Path) -> AsyncIterator[Arena]:
    async with Arena(members, tmp_path) as found:
        yield found
