"""A town whose nodes are all stopped at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.discovery.town import Town


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town()
    yield town
    for node in town.nodes:
        await node.contacts.stop()
