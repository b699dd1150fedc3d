"""An empty classroom."""

from __future__ import annotations

import pytest

from tests.student.classroom import Classroom


@pytest.fixture
def classroom() -> Classroom:
    return Classroom()
