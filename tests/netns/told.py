"""What the closing summary tells of the tests between hosts, whichever process of the run ran them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.netns.lan import why_not
from tests.netns.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE: Final = Path(__file__).parent
BETWEEN_HOSTS: Final = "between_hosts"
"""What the plugin is called."""


class BetweenHosts:
    """They need root and the command `ip`: where either is missing each test counts as skipped, loudly."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()
        self._reason = ""
        self._absent = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        ours = [item for item in items if _HERE in item.path.parents]
        if ours and (reason := why_not()):
            self._reason, self._absent = reason, len(ours)
            for item in ours:
                item.add_marker(pytest.mark.skip(reason=reason))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the process that started this one, where there is one."""
        output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[BETWEEN_HOSTS] = [self._reason, self._absent, self.stopwatch.rows]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # One that crashed has told nothing.
        reason, absent, rows = getattr(node, "workeroutput", {}).get(BETWEEN_HOSTS, ("", 0, []))
        self._reason, self._absent = self._reason or reason, max(self._absent, absent)
        self.stopwatch.rows += rows

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._absent:
            terminalreporter.section(
                f"{self._absent} TESTS BETWEEN HOSTS DID NOT RUN", sep="!", red=True, bold=True
            )
            terminalreporter.line(self._reason)
        if self.stopwatch.rows:
            terminalreporter.section("measured between hosts")
            for row in sorted(self.stopwatch.rows):
                terminalreporter.line(row)
