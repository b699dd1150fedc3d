"""The HTML file: the view and the plots, put into the template."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from qkt_node.report.canvas import private_matplotlib
from qkt_node.report.view import duration, measured_on, percent, points, view_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER = Path(__file__).parent


def render_page(data: Mapping[str, Any], *, cache: Path) -> str:
    """Return the report as one HTML document; `cache` is where matplotlib may keep its fonts' index."""
    with private_matplotlib(cache):
        from qkt_node.report import charts  # noqa: PLC0415 - imports matplotlib

        view = view_of(data)
        plots = {
            "accuracy": charts.accuracy_plot(view.classes),
            "evidence": charts.evidence_plot(view.evidence),
            "seconds": charts.seconds_plot(view.steps),
        }
    # Strict: a template that names something absent fails in the tests, not on a user's page.
    templates = Environment(autoescape=True, loader=FileSystemLoader(_FOLDER), undefined=StrictUndefined)
    templates.globals.update(duration=duration, measured_on=measured_on, percent=percent, points=points)
    return templates.get_template("page.html").render(
        view=view,
        # The plots are ours, and their texts are escaped by matplotlib.
        plots={name: Markup(plot) for name, plot in plots.items()},  # noqa: S704
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704
    )
