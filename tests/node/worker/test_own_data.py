"""The owner may point a node at other data than its model was made for."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qkt_node.new_home import create_home
from qkt_node.preparation import prepare_model
from qkt_node.settings import DataSection, ModelSection, NodeConfig
from qkt_node.worker.local_data import load_local_data
from qkt_node.worker.operations import PREPARE
from qkt_node.worker.workbench import Workbench
from qkt_p2p.datasets import LabelledData, save_npz
from qkt_p2p.datasets.labelled import Dataset
from qkt_p2p.errors import ConfigError
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import ClassName, StudentModel

if TYPE_CHECKING:
    from qkt_node.home import Home
    from qkt_p2p.types import Progress

MADE_FOR = DataSection(source="made_for.npz")


def unheard(progress: Progress) -> None:
    """Leave progress alone."""


def save(home: Home, name: str, *, side: int, classes: str, each: int = 10) -> None:
    """Save so many random images of each class."""
    count = each * len(classes)
    inputs = np.random.default_rng(0).random((count, 1, side, side), np.float32)
    data = LabelledData(inputs, np.arange(count) % len(classes), tuple(map(ClassName, classes)))
    save_npz(home.root / name, Dataset(data, data))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose model takes 8x8 images of a and b, and other data."""
    made = create_home(tmp_path_factory.mktemp("home") / "node")[0]
    save(made, "made_for.npz", side=8, classes="ab")
    save(made, "larger.npz", side=12, classes="ab")
    save(made, "strange.npz", side=8, classes="xy")
    save(made, "more.npz", side=8, classes="abx", each=50)
    workbench_on(made, MADE_FOR).prepare(None, unheard)
    return made


def config_of(data: DataSection) -> NodeConfig:
    return NodeConfig(data=data, model=ModelSection(architecture="mlp"))


def workbench_on(home: Home, data: DataSection) -> Workbench:
    return Workbench(home, config_of(data))


@dataclass
class InProcess:
    """A worker without a process of its own."""

    workbench: Workbench
    asked: int = 0

    async def call(self, operation: Any, argument: None, progress: Any) -> StudentModel:
        assert operation is PREPARE
        self.asked += 1
        return self.workbench.prepare(argument, progress)


async def started(home: Home, data: DataSection) -> tuple[int, StudentModel]:
    """Prepare a start with these data; return how often the worker was asked, and the model."""
    worker = InProcess(workbench_on(home, data))
    with closing(Journal(home.database)) as journal:
        model = await prepare_model(
            home,
            config_of(data),
            journal=journal,
            worker=worker,  # type: ignore[arg-type]
            progress=unheard,
        )
    return worker.asked, model


async def test_the_data_that_a_model_was_saved_with_are_not_read_at_start(home: Home) -> None:
    """A daemon that starts again needs no worker; other data that fit are looked at, and taken."""
    for data, asked in (
        (MADE_FOR, 0),
        (DataSection(source="more.npz"), 1),
        (DataSection(source="made_for.npz", classes=("a",)), 1),
    ):
        assert (await started(home, data))[0] == asked


def test_the_fingerprint_is_that_of_all_training_data(home: Home) -> None:
    """Banks on disk are known by it, also to later versions."""
    local = load_local_data(config_of(MADE_FOR), home.root)
    content = local.train.inputs.tobytes() + local.train.labels.tobytes()
    assert local.fingerprint == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("data", "local", "scarce"),
    [
        (MADE_FOR, "ab", "ab"),
        (DataSection(source="more.npz"), "ab", ""),
        (DataSection(source="made_for.npz", classes=("a",)), "a", "a"),
    ],
    ids=["as it was", "more of all, and a class beyond the model", "narrower"],
)
async def test_own_classes_are_those_of_the_data_as_they_are_now(
    home: Home, data: DataSection, local: str, scarce: str
) -> None:
    """A class that the data no longer hold has to be taught by peers, or an update would forget it."""
    model = (await started(home, data))[1]
    assert (model.local, model.scarce, model.trained) == (tuple(local), tuple(scarce), ("a", "b"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("larger.npz", r"inputs of \(1, 12, 12\), the model takes \(1, 8, 8\)"),
        ("strange.npz", "the data hold x, y, none of which the model has learned"),
    ],
)
async def test_data_that_the_model_was_not_made_for(home: Home, source: str, message: str) -> None:
    """A start ends with it, and so does each step of a daemon whose file was replaced under its name."""
    data = DataSection(source=source)
    with pytest.raises(ConfigError, match=message) as caught:
        await started(home, data)
    assert "new home" in caught.value.fix
    workbench = workbench_on(home, data)
    for _ in range(2):
        with pytest.raises(ConfigError, match=message):
            workbench.preferred_media(None, unheard)


def test_evaluation_data_that_were_trained_on_measure_nothing(home: Home) -> None:
    """Samples that source holds as well are left out and counted; where that is all, it is said."""
    own, fresh = (
        LabelledData(
            np.random.default_rng(seed).random((20, 1, 8, 8), np.float32),
            np.arange(20) % 2,
            tuple(map(ClassName, "ab")),
        )
        for seed in (1, 2)
    )
    both = LabelledData(
        np.concatenate([own.inputs[:5], fresh.inputs]),
        np.concatenate([own.labels[:5], fresh.labels]),
        own.classes,
    )
    save_npz(home.root / "own.npz", Dataset(own, own))
    save_npz(home.root / "both.npz", Dataset(own, both))
    data = load_local_data(config_of(DataSection(source="own.npz", evaluation="both.npz")), home.root)
    assert data.evaluation is not None
    assert (len(data.evaluation), data.repeated) == (20, 5)
    assert np.array_equal(data.evaluation.inputs, fresh.inputs)
    with pytest.raises(ConfigError, match="in source as well"):
        load_local_data(config_of(DataSection(source="own.npz", evaluation="own.npz")), home.root)
