"""What the runner makes of what libFuzzer tells, and what it keeps."""

from __future__ import annotations

from dataclasses import replace
from json import loads
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import target
from tests.fuzz.__main__ import main
from tests.fuzz.formats import json_text
from tests.fuzz.runner import GROWTH_MIB, fill, note, outcome_of
from tests.fuzz.target import corpus_of, save_corpus

TOLD = """\
INFO: Seed: 3089773188
#12\tINITED cov: 40 ft: 51 corp: 9/310b exec/s: 0 rss: 45Mb
#262702\tNEW    cov: 54 ft: 70 corp: 25/555b lim: 2611 exec/s: 26270 rss: 45Mb L: 52/52 MS: 2 CopyPart-
#300000\tDONE   cov: 54 ft: 70 corp: 25/555b lim: 4096 exec/s: 27272 rss: 45Mb
stat::number_of_executed_units: 300000
stat::average_exec_per_sec:     27272
stat::new_units_added:          16
stat::slowest_unit_time_sec:    1
stat::peak_rss_mb:              45
"""
MEMORY = {"mib_warm": 40.0, "mib_highest": 45.0, "mib_end": 44.0}


def test_a_run_that_finds_nothing_is_counted() -> None:
    """Inputs, pace, coverage and memory come from the last of what was told."""
    made = outcome_of(TOLD, MEMORY, code=0)
    assert (made.inputs, made.inputs_per_second, made.edges, made.corpus) == (300000, 27272, 54, 25)
    assert (made.slowest_seconds, made.mib_end, made.finding) == (1, 44.0, "")


def test_a_failure_is_named_by_its_input() -> None:
    """Or, where there is none, by the end of what was told."""
    written = f"{TOLD}artifact_prefix='x'; Test unit written to .fuzz/findings/wire.call-crash-1\n"
    assert outcome_of(written, MEMORY, code=77).finding == ".fuzz/findings/wire.call-crash-1"
    assert outcome_of("no such target", MEMORY, code=1).finding == "no such target"


def test_growth_is_a_finding() -> None:
    """Memory that inputs leave behind counts from when everything is loaded."""
    grown = MEMORY | {"mib_end": MEMORY["mib_warm"] + GROWTH_MIB + 1}
    assert "grew by" in outcome_of(TOLD, grown, code=0).finding


def test_a_report_grows_by_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a later run brings of a target takes the place of what was there; totals are over all."""
    monkeypatch.setattr("tests.fuzz.runner.version", lambda _: "3")
    report, made = tmp_path / "fuzz.json", outcome_of(TOLD, MEMORY, code=0)
    for name in ("wire.call", "identity.uri", "wire.call"):
        note(report, name, made, command=["fuzz", name])
    note(report, "node.rule", replace(made, finding="input"), command=["fuzz"])
    found = loads(report.read_text())
    assert found["inputs"] == 3 * made.inputs
    assert found["findings"] == ["node.rule"]
    assert list(found["targets"]) == ["identity.uri", "node.rule", "wire.call"]
    assert found["targets"]["wire.call"]["command"] == "fuzz wire.call"


def test_a_corpus_comes_back_shortest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any bytes are kept as lines of text."""
    monkeypatch.setattr(target, "CORPUS", tmp_path)
    assert corpus_of("wire.call") == []
    save_corpus("wire.call", [b"\n\n\n", b"", b"\xff"])
    assert corpus_of("wire.call") == [b"", b"\xff", b"\n\n\n"]
    assert len((tmp_path / "wire.call.txt").read_text().splitlines()) == 3


def test_inputs_are_files_that_fuzzing_can_add_to(tmp_path: Path) -> None:
    """The same input is one file."""
    fill(tmp_path, [b"a", b"b", b"a"])
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"a", b"b"]


def test_an_unknown_target_is_told_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are what one has to type next."""
    monkeypatch.setattr("sys.argv", ["fuzz", "--target", "nothing"])
    with pytest.raises(SystemExit):
        main()
    assert "wire.teach-request" in capsys.readouterr().err


def test_json_is_changed_within_its_structure() -> None:
    """Most changes are still JSON, or they would not get past the parser."""

    changed = [json_text(b'{"id": 1, "members": ["a", "b"]}', Random(seed)) for seed in range(40)]
    parsed = [loads(text) for text in changed if not text.startswith(b"[[[")]
    assert len(parsed) > 30
    assert any(value != {"id": 1, "members": ["a", "b"]} for value in parsed)
