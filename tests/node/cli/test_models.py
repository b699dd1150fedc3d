"""What `models` shows of versions, and what it asks of the daemon."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from qkt_node.cli import main as cli
from qkt_p2p.pb import control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class StandInClient:
    """A daemon whose first version is current again."""

    async def models(self) -> pb.ListModelsResponse:
        """List them."""
        return pb.ListModelsResponse(
            models=[pb.ModelSummary(version=2, parent=1), pb.ModelSummary(version=1, current=True)],
            rollbacks=[pb.ModelRollback(rolled_back_at=0.0, replaced=2, version=1)],
        )

    async def roll_back_model(self, version: int) -> pb.RollBackModelResponse:
        """Go back."""
        return pb.RollBackModelResponse(version=version or 1, replaced=3, known_classes=["7"])

    async def diff_models(self, before: int, after: int) -> pb.DiffModelsResponse:
        """Compare."""
        return pb.DiffModelsResponse(
            trained_before=["3", "7"],
            trained_after=["7", "9"],
            measured_on="holdout",
            classes=[pb.ClassDifference(class_name="7", before=before / 4, after=after / 4)],
        )


@pytest.fixture(autouse=True)
def daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the verb ask a stand-in."""

    def ask(home: Path, question: Callable[[Any], Awaitable[Any]]) -> Any:
        async def answer() -> Any:
            return await question(StandInClient())

        return asyncio.run(answer())

    monkeypatch.setattr("qkt_node.cli.models.ask_daemon", ask)


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return what the verb tells machines."""
    cli.main(["models", *arguments, "--home", "node", "--format", "json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_list_tells_what_is_current_and_when_the_node_went_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The fields of versions are as ever."""
    data = answered(capsys)["data"]
    assert [(model["version"], model["current"]) for model in data["models"]] == [(2, False), (1, True)]
    assert data["rollbacks"] == [{"rolled_back_at": "1970-01-01 00:00:00 UTC", "replaced": 2, "version": 1}]


@pytest.mark.parametrize(("given", "version"), [([], 1), (["2"], 2)])
def test_going_back(capsys: pytest.CaptureFixture[str], given: list[str], version: int) -> None:
    """Without a version it is the parent, which the daemon knows."""
    answer = answered(capsys, "rollback", *given)
    assert answer["data"] == {"version": version, "replaced": 3, "known_classes": ["7"]}


def test_a_difference_class_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    """Classes of either are told, and measured where there are data."""
    assert answered(capsys, "diff", "1", "2")["data"] == {
        "before": {"version": 1, "trained_classes": ["3", "7"]},
        "after": {"version": 2, "trained_classes": ["7", "9"]},
        "measured_on": "holdout",
        "accuracy": {"7": {"before": 0.25, "after": 0.5}},
    }
    assert cli.main(["models", "diff", "1", "2", "--home", "node"]) == 0
    shown = capsys.readouterr()
    table = shown.out + shown.err
    for cell in ("the first alone", "both", "the second alone", "25.0 %", "50.0 %"):
        assert cell in table


@pytest.mark.parametrize("given", [[], ["1"]])
def test_a_difference_needs_two_versions(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    """Wrong usage says how."""
    answer = answered(capsys, "diff", *given)
    assert (answer["exit_code"], answer["error"]["message"]) == (2, "models diff needs two versions")
    assert "qkt-node models diff 1 2 --home node" in answer["error"]["fix"]
