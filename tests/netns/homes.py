"""Homes of nodes, made with the commands that people type, and with their first model trained."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qkt_node.cli.main import main
from qkt_node.config import load_config
from qkt_node.config_text import config_text
from qkt_node.home import Home
from qkt_node.settings import DataSection, ModelSection

CLASSES: Final = {"alice": ("0", "1"), "bob": ("2", "3"), "carol": ("2", "4"), "mallory": ("5", "6")}
"""The digits that each node has data of."""

OUTSIDER: Final = "mallory"
"""The one that is a member of another federation."""


@dataclass(frozen=True, slots=True)
class Homes:
    """The folder that holds one home for each name, never started in place."""

    root: Path

    def copy(self, name: str, folder: Path) -> Home:
        """Return a home of the node for one test alone."""
        return Home(shutil.copytree(self.root / name, folder / name, symlinks=True))


def make_homes(root: Path) -> Homes:
    """Found two federations and make a home for everybody, without a model yet."""
    for federation in ("wards", "others"):
        run_verb("ca", "init", "--home", root / federation, "--federation", federation)
    for name in CLASSES:
        _make_home(root / name, authority=root / ("others" if name == OUTSIDER else "wards"))
    return Homes(root)


def run_verb(*words: str | Path) -> dict[str, Any]:
    """Run a verb of the command line that must succeed, and return its data."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = main([*map(str, words), "--format", "json"])
    answer: dict[str, Any] = json.loads(out.getvalue())
    assert code == 0, answer["error"]
    data: dict[str, Any] = answer["data"]
    return data


def _make_home(folder: Path, *, authority: Path) -> None:
    made = run_verb("init", "--home", folder)
    signed = run_verb("ca", "sign", made["request"], "--home", authority)
    run_verb("join", "--home", folder, "--certificate", signed["bundle"])
    home = Home(folder)
    data = DataSection(classes=CLASSES[folder.name], samples_per_class=60)
    config = load_config(home.config_file).model_copy(
        update={"data": data, "model": ModelSection(architecture="mlp")}
    )
    home.config_file.write_text(config_text(config))
