"""The three plots of a report."""

from __future__ import annotations

from math import cos, radians, sin
from typing import TYPE_CHECKING, Final

from qkt_node.report.canvas import Canvas, shorten
from qkt_node.report.view import duration, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_node.report.canvas import Ink, Point
    from qkt_node.report.view import ClassView, EvidenceView

WIDTH: Final = 400
"""Pixels: a plot fills half a desktop page, and a phone shows it at four fifths of its size."""

_LABELS: Final = 140
_VALUES: Final = 58
_LETTER: Final = 8.0
"""Width that a letter takes at most, on average over a bold name in a wide font."""

_CELL: Final = (52, 36)
_GAP: Final = 3


def accuracy_plot(classes: Sequence[ClassView]) -> str:
    """Return bars of the accuracy per class, after the query over before it."""
    if not classes:
        return ""
    row, top = 44, 26
    canvas = Canvas(WIDTH, top + row * len(classes) + 4)
    length = WIDTH - _VALUES - _LABELS
    for share in (0.0, 0.5, 1.0):
        x = _LABELS + share * length
        canvas.box((x - 0.5, top), (1, row * len(classes)), ink="line", radius=0)
        canvas.text((x, 10), percent(share), ink="muted", size=11, align="center")
    for number, item in enumerate(classes):
        y = top + row * (number + 0.5)
        canvas.text(
            (_LABELS - 12, y), shorten(item.name, 14 if item.asked else 16), align="right", bold=item.asked
        )
        ink: Ink = "asked" if item.asked else "after"
        canvas.box((_LABELS, y - 11), (_visible(item.after * length), 13), ink=ink)
        canvas.box((_LABELS, y + 5), (_visible(item.before * length), 6), ink="before")
        canvas.text((WIDTH, y - 4), percent(item.after), align="right", bold=True)
        canvas.text((WIDTH, y + 10), percent(item.before), ink="muted", size=11, align="right")
    return canvas.to_svg()


def evidence_plot(evidence: EvidenceView) -> str:
    """Return a heatmap of peers by classes: the darker a cell, the better the peer knows the class."""
    if not evidence.peers:
        return ""
    names = [shorten(name, 20) for name in evidence.classes]
    width, height = _CELL
    text = max(len(name) for name in names) * _LETTER
    turned = 0 if text < width else 40
    top = 24 + text * sin(radians(turned))
    beyond = len(names[-1]) * _LETTER * cos(radians(turned)) - width / 2 if turned else 0
    canvas = Canvas(_LABELS + width * len(names) + max(beyond, 0), top + height * len(evidence.peers))
    for column, name in enumerate(names):
        asked = evidence.classes[column] in evidence.asked
        canvas.text(
            (_LABELS + width * (column + 0.5), top - 12),
            name,
            ink="asked" if asked else "muted",
            align="left" if turned else "center",
            bold=asked,
            turned=turned,
        )
    for line, peer in enumerate(evidence.peers):
        y = top + height * line
        canvas.text((_LABELS - 12, y + height / 2), shorten(peer, 17), align="right")
        for column, value in enumerate(evidence.values[line]):
            _draw_cell(canvas, (_LABELS + width * column, y), value)
    return canvas.to_svg()


def seconds_plot(steps: Sequence[tuple[str, float]]) -> str:
    """Return one bar per step, as long as the step took."""
    longest = max((seconds for _, seconds in steps), default=0.0)
    if longest <= 0:
        return ""
    row, left = 32, 164
    length = WIDTH - _VALUES - left
    canvas = Canvas(WIDTH, row * len(steps))
    for number, (label, seconds) in enumerate(steps):
        y = row * (number + 0.5)
        canvas.text((left - 12, y), label, align="right")
        canvas.box((left, y - 6), (length, 12), ink="track")
        if seconds:
            canvas.box((left, y - 6), (_visible(seconds / longest * length), 12), ink="after")
        canvas.text((WIDTH, y), duration(seconds), align="right")
    return canvas.to_svg()


def _draw_cell(canvas: Canvas, corner: Point, value: float | None) -> None:
    x, y = corner
    width, height = _CELL
    middle = (x + width / 2, y + height / 2)
    inner = (width - _GAP, height - _GAP)
    canvas.box((x + _GAP / 2, y + _GAP / 2), inner, ink="track", radius=5)
    if value is None:
        canvas.text(middle, "·", ink="muted", align="center")
        return
    canvas.box((x + _GAP / 2, y + _GAP / 2), inner, ink="heat", opacity=round(value, 3), radius=5)
    # Where white and dark letters are equally legible on the cell.
    ink: Ink = "on-heat" if value > 0.8 else "ink"
    canvas.text(middle, f"{value:.2f}", ink=ink, size=12.5, align="center")


def _visible(length: float) -> float:
    # A bar of nothing still shows where it would begin.
    return max(length, 2.0)
