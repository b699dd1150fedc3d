"""`write_report`: the JSON and HTML files of one query."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qkt_p2p.files import replace_file
from qkt_p2p.types import parse_query_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_report(directory: Path, data: Mapping[str, Any]) -> Path:
    """Write <query_id>.json and <query_id>.html into `directory`; returns the path of the HTML file.

    `data` is what `qkt-node query` prints as "data", and may add "versions" and "node_name". Equal data
    give equal files. matplotlib's font cache stays in `directory`. Raises QktError where the disk fails.
    """
    from qkt_node.report.page import render_page  # noqa: PLC0415 - matplotlib, half a second and 40 MB

    query_id = parse_query_id(data["query_id"])
    page = directory / f"{query_id}.html"
    content = {**data, "report": str(page)}
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, indent=2)
    replace_file(directory / f"{query_id}.json", f"{text}\n".encode())
    replace_file(page, render_page(content, cache=directory / ".matplotlib").encode())
    return page
