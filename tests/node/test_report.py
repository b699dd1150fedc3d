"""The report: complete, self-contained, deterministic, safe with any name, and private to the home."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qkt_node.report import write_report
from qkt_node.report.canvas import Canvas, private_matplotlib, shorten
from qkt_node.report.view import (
    MAX_COLUMNS,
    MAX_ROWS,
    byte_size,
    duration,
    join_names,
    percent,
    points,
    view_of,
)
from qkt_p2p.errors import QktError, UsageError

ONE, TWO, THREE = ("a" * 52, "b" * 52, "c" * 52)
VOID = {"meta", "br", "img", "link", "hr", "input"}


def accuracy(before: float, after: float, *, asked: bool = False, on: str = "evaluation") -> dict[str, Any]:
    return {"before": before, "after": after, "measured_on": on, "asked": asked}


def teacher(peer: str, *, used: bool = True, reason: str = "", weight: float = 0.5) -> dict[str, Any]:
    return {
        "peer": peer,
        "classes": ["seven"] if used else [],
        "samples": 2000 if used else 0,
        "bytes": 1_300_000 if used else 0,
        "bytes_saved": 2_500_000 if used else 0,
        "encoding": "zstd" if used else "",
        "weight": weight,
        "used": used,
        "reason": reason,
    }


def sample(**changes: Any) -> dict[str, Any]:
    """The data of an accepted query over three peers."""
    data = {
        "query_id": "4f1d0c9be2a83376",
        "classes": ["seven"],
        "outcome": "accepted",
        "reason": "learned, and nothing forgotten",
        "mode": "qkt",
        "medium": "moments",
        "accuracy": {
            "zero": accuracy(0.994, 0.994),
            "seven": accuracy(0.0, 0.983, asked=True),
            "one": accuracy(0.972, 0.961, on="holdout"),
        },
        "mean_query_accuracy": {"before": 0.0, "after": 0.983},
        "mean_local_accuracy": {"before": 0.983, "after": 0.9775},
        "teachers": [
            teacher(THREE, used=False, reason="knows none of the classes", weight=0.0),
            teacher(TWO, weight=0.25),
            teacher(ONE, weight=0.75),
        ],
        "masks": {
            ONE: {"seven": 0.98, "zero": 0.01, "nine": 0.9},
            TWO: {"seven": 0.91, "zero": 0.02},
            THREE: {"seven": 0.03, "zero": 0.97, "nine": 0.2},
        },
        "bytes_sent": 8421,
        "bytes_received": 2_600_000,
        "bytes_saved": 5_000_000,
        "seconds": {
            "discover": 0.004,
            "probe": 0.41,
            "collect": 1.9,
            "phase1": 3.2,
            "phase2": 1.1,
            "validate": 0.2,
            "total": 6.814,
        },
        "epsilon_spent": {ONE: 1.25},
        "model_version": 2,
        "report": "",
        "seed": 7,
        "versions": {"qkt-node": "0.1.0", "torch": "2.13.0"},
        "node_name": "node-03",
        "peer_names": {ONE: "st-olav", TWO: "charite"},
    }
    return data | changes


def failed() -> dict[str, Any]:
    nothing = {"before": None, "after": None}
    seconds = dict.fromkeys(("discover", "probe", "collect", "phase1", "phase2", "validate", "total"), 0.0)
    return sample(
        outcome="failed",
        reason="no live peer knows “seven”",
        accuracy={},
        mean_query_accuracy=nothing,
        mean_local_accuracy=nothing,
        teachers=[],
        masks={},
        medium="",
        model_version=0,
        seconds=seconds,
        versions={},
        epsilon_spent={},
    )


class Page(HTMLParser):
    """Reads a page: its text, its attributes, and whether every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def test_page_tells_the_whole_query(tmp_path: Path) -> None:
    """Verdict, accuracies, evidence, teachers, steps, seed and versions are on the page."""
    page = Page(write_report(tmp_path, sample()))
    for expected in (
        "node-03 learned “seven” from 2 peers: accuracy went from 0 % to 98.3 %.",
        "accuracy went from 98.3 % to 97.8 %",
        "The validation gate said: learned, and nothing forgotten.",
        "on evaluation data",
        "on own held-out data",
        "st-olav",
        "cccccccc",
        "knows none of the classes",
        "1.24 MiB",
        "8.22 KiB sent, 4.77 MiB saved by compression",
        "0.98",
        "Distil (phase 1)",
        "ε 1.25",
        "2.13.0",
        "4f1d0c9be2a83376",
    ):
        assert expected in page.text
    assert page.tags.count("svg") == 3
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert any("st-olav knows seven, nine." in label for label in labels)
    assert any("Distil (phase 1) 3.2 s" in label for label in labels)


def test_json_beside_it_holds_the_data(tmp_path: Path) -> None:
    """The JSON file is the query's data with the path of the page, and both are their owner's alone."""
    path = write_report(tmp_path, sample())
    assert path == tmp_path / "4f1d0c9be2a83376.html"
    beside = path.with_suffix(".json")
    assert json.loads(beside.read_text(encoding="utf-8")) == sample(report=str(path))
    assert {file.stat().st_mode & 0o777 for file in (path, beside)} == {0o600}


@pytest.mark.parametrize(
    ("data", "headline"),
    [
        (
            sample(outcome="refused", reason="own classes would fall by 4 points."),
            "The update for “seven” was refused: own classes would fall by 4 points.",
        ),
        (failed(), "node-03 could not learn “seven”: no live peer knows “seven”."),
        (sample(node_name=None, peer_names={}), "This node learned “seven” from 2 peers"),
        (
            sample(trial=True),
            "node-03 would learn “seven” from 2 peers: accuracy would go from 0 % to 98.3 %."
            " This was a trial: the model is the one from before the query."
            " On the classes it knew before, accuracy would go from 98.3 % to 97.8 %",
        ),
        (
            sample(outcome="refused", reason="nobody teaches “one” now", accuracy={}),
            "was refused: nobody teaches “one” now. The model is the one from before the query.",
        ),
    ],
)
def test_every_outcome_has_its_sentence(tmp_path: Path, data: dict[str, Any], headline: str) -> None:
    """Refused and failed queries have a report too, without what they never reached."""
    page = Page(write_report(tmp_path, data))
    assert headline in page.text
    assert ("class", f"card verdict {data['outcome']}") in page.attributes


def test_a_failure_is_not_laid_to_the_gate(tmp_path: Path) -> None:
    """A query that failed after the gate has accuracies, and a reason that is not the gate's."""
    page = Page(write_report(tmp_path, sample(outcome="failed", reason="the disk is full")))
    assert "Accuracy per class" in page.text
    assert "could not learn “seven”: the disk is full." in page.text
    assert "gate said" not in page.text


def test_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    """No element loads anything, no address occurs at all, and the page forbids it itself."""
    path = write_report(tmp_path, sample())
    page = Page(path)
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    assert not {"src", "href", "xlink:href"} & {name for name, _ in page.attributes}
    assert "://" not in path.read_text(encoding="utf-8")
    assert "url(" not in path.read_text(encoding="utf-8")
    assert any("default-src 'none'" in value for _, value in page.attributes)


HOSTILE = "</text><script>alert('x')</script>\"&$x^2$"


def test_names_and_reasons_of_others_are_text_only(tmp_path: Path) -> None:
    """Markup in class names, peers' names, reasons and versions comes out as letters, in plots as well."""
    data = sample(
        classes=[HOSTILE],
        accuracy={HOSTILE: accuracy(0.0, 1.0, asked=True)},
        masks={ONE: {HOSTILE: 1.0}},
        teachers=[teacher(ONE, reason=HOSTILE) | {"classes": [HOSTILE]}],
        peer_names={ONE: HOSTILE},
        node_name=HOSTILE,
        versions={HOSTILE: HOSTILE},
        epsilon_spent={ONE: 1.0},
        medium=HOSTILE,
    )
    page = Page(write_report(tmp_path, data))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 8
    assert shorten(HOSTILE, 20) in page.text


@pytest.mark.parametrize("name", ['x version="1" y', "fill: #010212;", 'a id="text_7" b'])
def test_names_that_read_like_a_plots_source_are_drawn_as_they_are(tmp_path: Path, name: str) -> None:
    """What is cleaned of a plot is its tags, never its texts."""
    with private_matplotlib(tmp_path):
        canvas = Canvas(100, 20)
        canvas.text((0, 10), name)
        assert f">{name}</text>" in canvas.to_svg()


def test_letters_without_a_glyph_raise_no_warning(tmp_path: Path) -> None:
    """Names in any script reach the page; its reader's browser has the fonts."""
    data = sample(
        accuracy={"腫瘍": accuracy(0.1, 0.9, asked=True)}, classes=["腫瘍"], masks={ONE: {"腫瘍": 1.0}}
    )
    assert Page(write_report(tmp_path, data)).text.count("腫瘍") >= 4


def test_equal_data_give_equal_files(tmp_path: Path) -> None:
    """Neither time nor hash seeds nor the order of dictionaries change a byte of the page."""
    first = write_report(tmp_path, sample()).read_bytes()
    script = """
import json, sys
from pathlib import Path
from qkt_node.report import write_report
write_report(Path(sys.argv[1]), json.load(sys.stdin))
"""
    data = json.dumps(sample())
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], input=data, text=True, check=True)
    assert (tmp_path / "4f1d0c9be2a83376.html").read_bytes() == first


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    """matplotlib's index of fonts stays with the reports, whatever its user's home and settings say."""
    home, reports = tmp_path / "home", tmp_path / "reports"
    (home / ".config/matplotlib").mkdir(parents=True)
    (home / ".config/matplotlib/matplotlibrc").write_text("svg.fonttype: path\n")
    reports.mkdir()
    before = sorted(home.rglob("*"))
    script = """
import json, os, sys
from pathlib import Path
from qkt_node.report import write_report
write_report(Path(sys.argv[1]), json.load(sys.stdin))
assert "MPLCONFIGDIR" not in os.environ
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG", "MPL"))}
    subprocess.run(
        [sys.executable, "-c", script, str(reports)],
        input=json.dumps(sample()),
        text=True,
        env=environment | {"HOME": str(home)},
        check=True,
    )
    assert sorted(home.rglob("*")) == before
    names = {path.name for path in reports.iterdir()}
    assert names == {".matplotlib", "4f1d0c9be2a83376.html", "4f1d0c9be2a83376.json"}
    assert "Distil (phase 1)" in Page(reports / "4f1d0c9be2a83376.html").text


def test_large_queries_are_cut_to_a_readable_length(tmp_path: Path) -> None:
    """Hundreds of classes and peers give a page of bounded size that says what it leaves out."""
    classes = [f"class {number:03}" for number in range(300)]
    peers = [f"{number:052}" for number in range(100)]
    data = sample(
        classes=classes[:30],
        accuracy={name: accuracy(0.5, 0.6, asked=name in classes[:30]) for name in classes},
        masks={peer: dict.fromkeys(classes, 0.5) for peer in peers},
        teachers=[teacher(peer) for peer in peers],
    )
    view = view_of(data)
    assert len(view.evidence.classes) == MAX_COLUMNS
    assert set(view.evidence.classes) <= set(classes[:30])
    assert len(view.classes) == len(view.teachers) == len(view.evidence.peers) == MAX_ROWS
    page = write_report(tmp_path, data)
    assert "Not shown here: 260 more classes and 60 more peers." in Page(page).text
    assert page.stat().st_size < 2_000_000


def test_asked_classes_and_strong_teachers_come_first() -> None:
    """The order on the page is that of importance, and evidence not given is not zero."""
    view = view_of(sample())
    assert [item.name for item in view.classes] == ["seven", "zero", "one"]
    assert [item.name for item in view.teachers] == ["st-olav", "charite", "cccccccc"]
    assert [item.share for item in view.teachers] == [1.0, 1 / 3, 0.0]
    assert view.evidence.classes == ("seven", "nine", "zero")
    assert view.evidence.values[view.evidence.peers.index("charite")] == (0.91, None, 0.02)


def test_peers_that_were_not_reached_did_not_answer() -> None:
    """They are among the teachers, for their reason, and have shown no evidence."""
    away = teacher("d" * 52, used=False, reason="not reached: connection refused")
    whole, lacking = sample(), sample()
    lacking["teachers"] = [*lacking["teachers"], away]
    lacking["masks"] = {**lacking["masks"], away["peer"]: {}}
    notes = [next(f.note for f in view_of(data).facts if f.label == "Teachers") for data in (whole, lacking)]
    assert notes == ["of 3 peers that answered", "of 3 peers that answered, 1 did not"]


def test_a_trial_is_told_as_one() -> None:
    """Also beside the colour of its outcome; refused, it reads like any other."""
    labels = [view_of(sample(trial=trial)).outcome_label for trial in (False, True)]
    assert labels == ["Accepted", "Accepted (trial)"]


def test_how_a_response_came_is_told() -> None:
    """Attempts, what did not travel again, and for whom a peer took over; an older result tells nothing."""
    data = sample(quorum={"asked": 2, "reached": {"seven": 2}})
    data["teachers"][2] |= {"attempts": 3, "held_chunks": 4, "held_bytes": 4096, "stood_in": True}
    data["teachers"][1] |= {"missing": ["nine", "one"], "withheld": ["two"]}
    data["teachers"][0] |= {"missing": ["nine"]}
    view = view_of(data)
    ways = [item.way for item in view.teachers]
    expected = "took over from a teacher that failed, 3 attempts, 4 KiB held already and not sent again"
    spent = "nine, one did not come, its privacy budget of two is spent"
    assert ways == [expected, spent, ""]
    assert ("Teachers that each class must have", "2") in [(fact.label, fact.value) for fact in view.details]


def test_query_id_cannot_name_another_file(tmp_path: Path) -> None:
    """Only a query id becomes a file name."""
    with pytest.raises(UsageError):
        write_report(tmp_path, sample(query_id="../../etc/passwd"))
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_reported_with_the_path(small_disk: Path) -> None:
    """A report that does not fit fails with its path, and leaves no half page."""
    (small_disk / "ballast").write_bytes(b"x" * (2 * 1024 * 1024 - 8192))
    with pytest.raises(QktError, match="4f1d0c9be2a83376"):
        write_report(small_disk, sample(versions={"much": "x" * 2_100_000}))
    assert list(small_disk.glob("*.html")) == []


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(None), "\N{EN DASH}"),
        (percent(1.0), "100 %"),
        (percent(0.98349), "98.3 %"),
        (points(0.983), "+98.3"),
        (points(-0.011), "\N{MINUS SIGN}1.1"),
        (points(-0.0001), "±0"),
        (byte_size(0), "0 B"),
        (byte_size(1_304_000), "1.24 MiB"),
        (byte_size(3 * 1024**3), "3 GiB"),
        (duration(0.0), "\N{EN DASH}"),
        (duration(0.004), "4 ms"),
        (duration(6.814), "6.8 s"),
        (duration(209.4), "3 min 29 s"),
        (join_names(["a"]), "“a”"),
        (join_names(["a", "b"]), "“a” and “b”"),
        (join_names(list("abcdefg")), "“a”, “b”, “c” and 4 more"),
        (shorten("pituitary adenoma", 11), "pituitary…"),
        (shorten("seven", 11), "seven"),
    ],
)
def test_numbers_and_names_read_well(shown: str, expected: str) -> None:
    """Formats have the precision that a reader needs and no more."""
    assert shown == expected
