"""Progress of long steps for people: bars on a terminal, a line per step elsewhere."""

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from qkt_node.cli.output import Output

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from qkt_p2p.types import Progress

_TITLES = {
    "up": "starting daemons",
    "train": "training the first model",
    "discover": "looking for peers",
    "probe": "probing what they know",
    "collect": "collecting responses",
    "phase1": "phase 1: distilling",
    "phase2": "phase 2: refining the head",
    "validate": "validating",
    "report": "writing the report",
    "bench": "measuring",
}


class StepBars:
    """Shows one bar per step, on stderr; silent unless people read the answer."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._closing = ExitStack()
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._named: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def begin(self, query_id: str) -> None:
        """Tell machines which query the events that follow belong to."""
        self._output.event({"event": "started", "query_id": query_id})

    def show(self, progress: "Progress") -> None:
        """Show that a step went on."""
        self._output.event(
            {
                "event": "progress",
                "step": progress.step,
                "done": progress.done,
                "total": progress.total,
                "message": progress.message,
            }
        )
        title = _TITLES.get(progress.step)
        if title is None or not self._output.for_people:
            return
        if sys.stderr.isatty():
            self._draw(title, progress)
        elif progress.step not in self._named:
            self._named.add(progress.step)
            self._output.note(f"{title} ...")

    def _draw(self, title: str, progress: "Progress") -> None:
        bars = self._shown()
        if progress.step not in self._tasks:
            self._finish_all()
            self._tasks[progress.step] = bars.add_task(title, total=None, message="")
        bars.update(
            self._tasks[progress.step],
            completed=progress.done,
            total=progress.total or None,
            message=progress.message,
        )

    def _shown(self) -> "RichProgress":
        if self._bars is None:
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            self._bars = RichProgress(
                TextColumn("{task.description:<26}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[message]}", markup=False),
                console=self._output.progress_console(),
            )
            self._closing.enter_context(self._bars)
        return self._bars

    def _finish_all(self) -> None:
        """Fill the bars of the steps before: they follow each other."""
        bars = self._shown()
        for task in self._tasks.values():
            total = bars.tasks[task].total or 1
            bars.update(task, completed=total, total=total)
