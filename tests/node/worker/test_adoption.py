"""A model is adopted once and whole, wherever the process that does it dies."""

from __future__ import annotations

from contextlib import closing
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from qkt_node.home import Home
from qkt_node.model_files import described_model, require_intact, stored_model, version_file
from qkt_node.settings import DataSection, ModelSection, NodeConfig
from qkt_node.worker import own_models
from qkt_node.worker.operations import ModelPair
from qkt_node.worker.own_models import OwnModels
from qkt_node.worker.workbench import Workbench
from qkt_p2p.datasets import load_dataset
from qkt_p2p.errors import ConfigError, QktError, UpdateRefusedError
from qkt_p2p.models import build_classifier
from qkt_p2p.store.checkpoints import set_current
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import ClassName, LearningTask, Query, QueryId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qkt_p2p.models import Classifier
    from qkt_p2p.types import Progress, StudentModel

CLASSES = tuple(map(ClassName, ("0", "1")))
CONFIG = NodeConfig(model=ModelSection(architecture="mlp"), data=DataSection(classes=CLASSES))
QUERY = QueryId("0" * 16)


class KilledError(BaseException):
    """Ends a process at once: nothing of the software handles it."""


class Worker:
    """A home whose model is version 1, and a query's candidate for the next."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.models.mkdir()
        self.journal = Journal(self.home.database)
        self.data = load_dataset("digits", root=root).train.restrict(CLASSES, 20, seed=0)
        self.models.save_version(self.classifier(1), data=self.data)
        self.models.save_candidate(QUERY, "phase2", self.classifier(2))

    @property
    def models(self) -> OwnModels:
        """The models as a process finds them that has just started."""
        return OwnModels(self.home, CONFIG, journal=self.journal)

    def classifier(self, seed: int) -> Classifier:
        shape = self.data.input_shape
        return build_classifier("mlp", input_shape=shape, classes=CLASSES, trained=CLASSES, seed=seed)

    def adopt(self) -> str:
        """Adopt the candidate; return the digest of its file."""
        return self.models.adopt(QUERY, data=self.data).sha256

    @property
    def version(self) -> int:
        """The current version, whose file must be what was recorded."""
        require_intact(self.home, self.journal.model_records())
        model = stored_model(self.home, CONFIG)
        assert model is not None
        return model.version


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    with closing(made.journal):
        yield made


def unheard(progress: Progress) -> None:
    """Leave progress alone."""


def test_what_was_learned_from_enough_own_data_is_known_whatever_probes_find(worker: Worker) -> None:
    """Where a node has only a few samples of a class, its probes tell."""
    few, enough = CLASSES
    some = load_dataset("digits", root=worker.home.root).train.restrict(CLASSES, 40, seed=0)
    data = some.select(np.flatnonzero((some.labels == 1) | (np.cumsum(some.labels == 0) <= 20)))
    assert [data.counts[name] for name in CLASSES] == [20, 40]
    unsure = build_classifier(
        "mlp", input_shape=data.input_shape, classes=data.classes, trained=CLASSES, seed=3
    )
    with torch.no_grad():
        unsure.head.weight.zero_()
    assert worker.models.save_version(unsure, data=data).known == (enough,)
    assert few not in worker.journal.model_records()[0].known_classes


def die(*_: object) -> None:
    raise KilledError


@pytest.mark.parametrize(("after", "version"), [("nothing", 1), ("file", 1), ("row", 1), ("link", 2)])
def test_a_death_leaves_the_old_model_or_the_new_one(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, after: str, version: int
) -> None:
    """Whichever it is, adopting again ends with the new one: the same file, recorded once."""

    def link_and_die(models: Path, file: str) -> None:
        set_current(models, file)
        die()

    with monkeypatch.context() as patch:
        match after:
            case "nothing":
                patch.setattr(own_models, "save_checkpoint", die)
            case "file":
                patch.setattr(worker.journal, "add_model", die)
            case "row":
                patch.setattr(own_models, "set_current", die)
            case _:
                patch.setattr(own_models, "set_current", link_and_die)
        with pytest.raises(KilledError):
            worker.adopt()
    assert worker.version == version
    digests = {worker.adopt() for _ in range(2)}
    assert worker.version == 2
    records = worker.journal.model_records()
    assert [(record.version, record.query_id) for record in records] == [(2, QUERY), (1, "")]
    assert digests == {records[0].sha256}


def test_adopting_tells_all_that_the_model_is_now(worker: Worker) -> None:
    """Also which classes it has learned: its daemon asks for these in the next query, known or not."""
    candidate = worker.classifier(2).grown([ClassName("7")], seed=0)
    worker.models.save_candidate(QUERY, "phase2", candidate)
    task = LearningTask(Query(QUERY, (ClassName("7"),), "moments", 1, 10.0), {}, "moments")
    told = Workbench(worker.home, CONFIG).adopt(task, unheard)
    assert told == stored_model(worker.home, CONFIG)
    assert (told.version, told.local, told.trained) == (2, CLASSES, candidate.trained)


def test_what_was_adopted_stays_behind_a_later_model(worker: Worker) -> None:
    """Asking once more does not bring an old model back."""
    worker.adopt()
    worker.models.save_version(worker.classifier(3), data=worker.data)
    worker.adopt()
    assert worker.version == 3
    assert len(worker.journal.model_records()) == 3


def grown(worker: Worker) -> Workbench:
    """Have the query's candidate, which has learned a class more, adopted."""
    worker.models.save_candidate(QUERY, "phase2", worker.classifier(2).grown([ClassName("7")], seed=0))
    workbench = Workbench(worker.home, CONFIG)
    task = LearningTask(Query(QUERY, (ClassName("7"),), "moments", 1, 10.0), {}, "moments")
    assert workbench.adopt(task, unheard).version == 2
    return workbench


def test_what_teaches_is_one_version_though_another_becomes_current(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it shows of its data is kept under the number of the model that answered."""
    grown(worker)
    read = described_model

    def read_and_go_back(path: Path, home: Home, config: NodeConfig) -> StudentModel:
        set_current(home.models, version_file(1))
        return read(path, home, config)

    monkeypatch.setattr(own_models, "described_model", read_and_go_back)
    described, classifier = worker.models.in_use()
    assert described.version == 2
    assert classifier.classes == (*CLASSES, "7")


def test_going_back_to_an_earlier_version(worker: Worker) -> None:
    """It is current again as it was, that is recorded, and what is learned next comes from it."""
    told = grown(worker).roll_back(1, unheard)
    assert (told.version, told.trained, worker.version) == (1, CLASSES, 1)
    ((_, replaced, version),) = map(astuple, worker.journal.rollback_records())
    assert (replaced, version) == (2, 1)
    again = QueryId("1" * 16)
    worker.models.save_candidate(again, "phase2", worker.classifier(3))
    record = worker.models.adopt(again, data=worker.data)
    assert (record.version, record.parent, worker.version) == (3, 1, 3)


@pytest.mark.parametrize(("place", "step"), [(Journal, "add_rollback"), (own_models, "set_current")])
def test_a_death_while_going_back_leaves_either_version(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, place: object, step: str
) -> None:
    """No change of the current version is without its record."""
    workbench = grown(worker)
    with monkeypatch.context() as patch:
        patch.setattr(place, step, die)
        with pytest.raises(KilledError):
            workbench.roll_back(1, unheard)
    assert worker.version == 2
    workbench.roll_back(1, unheard)
    assert worker.version == 1


@pytest.mark.parametrize(
    ("lost", "message"),
    [("the row", "no model version 1"), ("the file", "cannot be read"), ("a bit", "damaged")],
)
def test_a_version_that_cannot_be_used_does_not_become_current(
    worker: Worker, lost: str, message: str
) -> None:
    """The owner is told why, for a comparison as well, and the node keeps its model."""
    workbench, file = grown(worker), worker.home.models / "v0001.safetensors"
    match lost:
        case "the row":
            worker.journal._write("DELETE FROM models WHERE version = 1")
        case "the file":
            file.unlink()
        case _:
            file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(QktError, match=message):
        workbench.roll_back(1, unheard)
    with pytest.raises(QktError, match=message):
        workbench.compare(ModelPair(1, 2), unheard)
    assert (worker.version, worker.journal.rollback_records()) == (2, [])


def test_two_versions_are_compared_on_data_that_none_was_trained_on(worker: Worker) -> None:
    """Class by class, whichever is the current one; what there are no data of is not measured."""
    found = grown(worker).compare(ModelPair(1, 2), unheard)
    assert (found.trained_before, found.trained_after) == (CLASSES, (*CLASSES, "7"))
    assert [(each.class_name, each.measured_on) for each in found.accuracy] == [
        ("0", "holdout"),
        ("1", "holdout"),
    ]
    turned = Workbench(worker.home, CONFIG).compare(ModelPair(2, 1), unheard)
    assert [(each.before, each.after) for each in turned.accuracy] == [
        (each.after, each.before) for each in found.accuracy
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_candidate_whose_numbers_ran_away_is_refused(worker: Worker, number: float) -> None:
    """It is not saved: loaded again it would be a damaged file, and the advice to move all models away."""
    candidate = worker.classifier(4)
    with torch.no_grad():
        candidate.head.bias[0] = number
    with pytest.raises(
        UpdateRefusedError, match=r"phase1 made holds NaN or infinite numbers in head\.bias"
    ) as caught:
        worker.models.save_candidate(QUERY, "phase1", candidate)
    assert "--seed" in caught.value.fix
    assert [path.name for path in worker.home.models.glob("*phase1*")] == []


def test_a_first_training_that_ran_away_leaves_nothing(worker: Worker) -> None:
    """Saved and current, it would be a damaged file at every start, and a new one trained alike."""
    model = worker.classifier(4)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(ConfigError, match=r"first training made holds NaN or infinite numbers in head\.bias"):
        worker.models.save_version(model, data=worker.data)
    assert worker.version == 1
    assert len(worker.journal.model_records()) == 1
    assert [path.name for path in worker.home.models.glob("v0002*")] == []


def test_the_second_phase_leaves_what_it_began_with(worker: Worker) -> None:
    """So it can be taken again from there, and ends the same."""
    models = worker.models
    models.save_candidate(QUERY, "phase1", worker.classifier(4))
    before = {path.name: path.read_bytes() for path in worker.home.models.iterdir()}
    models.save_candidate(QUERY, "phase2", models.candidate(QUERY, "phase1"))
    after = {path.name: path.read_bytes() for path in worker.home.models.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {
        f"candidate-{QUERY}-phase2.safetensors"
    }
