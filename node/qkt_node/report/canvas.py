"""matplotlib as a drawing surface: deterministic, private, in pixels, in the colours of the page.

Plots are drawn in placeholder colours that become CSS variables, so that one SVG serves light and dark.
Texts stay texts: they take the page's font and can be searched and read aloud.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Ink = Literal["ink", "muted", "line", "track", "before", "after", "asked", "heat", "on-heat"]
"""A colour of the page, by the name of its CSS variable."""

Align = Literal["left", "center", "right"]

Point = tuple[float, float]
"""(x, y) in pixels."""

_PLACEHOLDERS: Final[dict[str, str]] = {
    name: f"#0102{number:02x}" for number, name in enumerate(get_args(Ink), 16)
}
_STYLED_COLOUR: Final = re.compile(r"((?:fill|stroke): )(#0102[0-9a-f]{2})\b")
_INKS: Final = {placeholder: f"var(--{name})" for name, placeholder in _PLACEHOLDERS.items()}
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_UNDRAWN: Final = re.compile(r"\s*<(metadata|defs)>.*?</\1>", re.DOTALL)
_UNUSED_NAMES: Final = re.compile(r' id="(?:figure|axes|patch|text)_\d+"')
_NAMESPACES: Final = re.compile(r' (?:xmlns(?::xlink)?|version)="[^"]*"')
_SIZE: Final = re.compile(r'<svg width="[^"]*" height="[^"]*"')
_TAG: Final = re.compile(r"<[^>]*>")


@contextmanager
def private_matplotlib(cache: Path) -> Iterator[None]:
    """Keep matplotlib's settings and its index of fonts in `cache` while it is loaded and used.

    It would else write into its user's home, and read settings that change what is drawn.
    """
    before = os.environ.get("MPLCONFIGDIR")
    os.environ["MPLCONFIGDIR"] = str(cache)
    try:
        import matplotlib  # noqa: PLC0415 - reads MPLCONFIGDIR
        import matplotlib.font_manager  # noqa: PLC0415 - writes its index on import

        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()
            matplotlib.rcParams["svg.fonttype"] = "none"
            # Names may hold any letter; the reader's browser has fonts that matplotlib's do not cover.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            yield
    finally:
        if before is None:
            del os.environ["MPLCONFIGDIR"]
        else:
            os.environ["MPLCONFIGDIR"] = before


class Canvas:
    """A plot of `width` by `height` pixels, x to the right and y down."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure  # noqa: PLC0415 - see private_matplotlib

        self._width = width
        self._figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self._figure.patch.set_visible(False)
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.set_axis_off()

    def box(self, corner: Point, size: Point, *, ink: Ink, opacity: float = 1.0, radius: float = 3.0) -> None:
        """Draw a filled box of (width, height) with round corners, its upper left corner at `corner`."""
        from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415 - see private_matplotlib

        rounding = min(radius, min(size) / 2)
        box = FancyBboxPatch(
            corner,
            *size,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=_PLACEHOLDERS[ink],
            linewidth=0,
            alpha=opacity,
            clip_on=False,
        )
        self._axes.add_patch(box)

    def text(
        self,
        start: Point,
        content: str,
        *,
        ink: Ink = "ink",
        size: float = 13.0,
        align: Align = "left",
        bold: bool = False,
        turned: float = 0.0,
    ) -> None:
        """Write one line, vertically centred on its start; `turned` degrees against the clock."""
        self._axes.text(
            *start,
            content,
            color=_PLACEHOLDERS[ink],
            fontsize=size,
            horizontalalignment=align,
            verticalalignment="center_baseline",
            fontweight="bold" if bold else "normal",
            rotation=turned,
            rotation_mode="anchor",
            # A name with two dollar signs is a name, not a formula.
            parse_math=False,
            clip_on=False,
        )

    def to_svg(self) -> str:
        """Return the plot as an SVG element without sizes, names, or anything that is not drawn."""
        stream = io.StringIO()
        self._figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        drawn = _UNDRAWN.sub("", _PROLOGUE.sub("", stream.getvalue()))
        # Between tags are texts, which may read like anything.
        svg = _TAG.sub(lambda tag: _cleaned(tag[0]), drawn)
        return _SIZE.sub(f'<svg aria-hidden="true" style="--width: {self._width:.0f}px"', svg)


def _cleaned(tag: str) -> str:
    """Return a tag without names that nothing refers to, in the colours of the page."""
    tag = _NAMESPACES.sub("", _UNUSED_NAMES.sub("", tag))
    return _STYLED_COLOUR.sub(lambda match: match[1] + _INKS[match[2]], tag)


def shorten(name: str, characters: int) -> str:
    """Return a name, cut to a number of characters where it is longer."""
    return name if len(name) <= characters else f"{name[: characters - 1].rstrip()}…"
