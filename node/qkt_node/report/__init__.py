"""The report of one query: a JSON file, and one HTML file that needs nothing else.

write.py     `write_report`: both files, whole or not at all
view.py      what the page says, in words and numbers for people
charts.py    the three plots, as SVG that follows the page's colours
canvas.py    matplotlib as a drawing surface: deterministic, private, in pixels
page.py      the HTML file: the view and the plots, put into the template
page.html    the page's template, in which everything is escaped
page.css     its looks, light and dark, screen, phone and paper

matplotlib is loaded only when a report is written, which is the worker's task.
"""

from __future__ import annotations

from qkt_node.report.write import write_report

__all__ = ["write_report"]
