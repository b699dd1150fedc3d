"""What the daemon reads of a model's files, and what it clears away."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qkt_node.home import Home
from qkt_node.model_files import (
    candidate_file,
    data_metadata,
    is_saved_with,
    node_metadata,
    remove_candidates,
    remove_leftovers,
    require_intact,
    stored_model,
    version_file,
)
from qkt_node.settings import DataSection, ModelSection, NodeConfig
from qkt_p2p.errors import ConfigError
from qkt_p2p.store.checkpoints import save_checkpoint, set_current
from qkt_p2p.store.records import ModelRecord
from qkt_p2p.types import ClassName, QueryId, StudentModel

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = NodeConfig(model=ModelSection(architecture="mlp"))
A, B, C = map(ClassName, "abc")
MODEL = StudentModel(3, (1, 8, 8), (A,), (A, B), scarce=(A,), trained=(A, B, C))
METADATA = {
    "architecture": '"mlp"',
    "input_shape": "[1, 8, 8]",
    "trained": '["a", "b", "c"]',
    **node_metadata(MODEL),
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with an empty models/."""
    (tmp_path / "models").mkdir()
    return Home(tmp_path)


def save(home: Home, metadata: dict[str, str]) -> ModelRecord:
    """Save a model file as the current one and return its record."""
    file = version_file(3)
    digest = save_checkpoint(home.models / file, {"w": np.arange(3.0)}, metadata)
    set_current(home.models, file)
    return ModelRecord(3, 0, 0.0, MODEL.known, "", file, digest, "{}")


def test_a_home_without_a_model(home: Home) -> None:
    """There is nothing to describe, and nothing that could be damaged."""
    assert stored_model(home, CONFIG) is None
    require_intact(home, [])


def test_what_was_saved_is_read_back(home: Home) -> None:
    """Version, shape and classes come from the file alone."""
    record = save(home, METADATA)
    assert stored_model(home, CONFIG) == MODEL
    require_intact(home, [record])


def test_the_data_of_a_version_are_known_again(home: Home) -> None:
    """By what node.toml says of them; a file of an earlier version does not tell."""
    data = DataSection(source="scans.npz", classes=("a",))
    assert not is_saved_with(home, data)
    save(home, METADATA)
    assert not is_saved_with(home, data)
    save(home, METADATA | data_metadata(data))
    assert is_saved_with(home, data)
    assert not is_saved_with(home, DataSection(source="scans.npz"))
    assert not is_saved_with(home, DataSection(source="others.npz", classes=("a",)))


def test_a_file_that_does_not_tell_what_is_scarce(home: Home) -> None:
    """Files of earlier versions are read as well."""
    save(home, {key: text for key, text in METADATA.items() if key != "scarce"})
    assert stored_model(home, CONFIG) == replace(MODEL, scarce=())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", '"cnn"', "holds a 'cnn' model, node.toml asks for 'mlp'"),
        ("architecture", None, "its metadata lack 'architecture'"),
        ("input_shape", "[8, 8]", "not as expected"),
        ("input_shape", '["x", 8, 8]', "not as expected"),
        ("input_shape", "{", "lack 'input_shape'"),
        ("version", "null", "not as expected"),
        ("known", "[1]", "not as expected"),
        ("local", '[" a"]', "is not a class name"),
        ("scarce", "1", "not as expected"),
    ],
)
def test_foreign_metadata(home: Home, key: str, value: str | None, message: str) -> None:
    """Metadata of other software or another architecture are refused, with the file's name and a fix."""
    changed = {name: text for name, text in {**METADATA, key: value}.items() if text is not None}
    save(home, changed)
    with pytest.raises(ConfigError, match=message) as raised:
        stored_model(home, CONFIG)
    assert str(home.models / version_file(3)) in raised.value.message
    assert raised.value.fix


OWN = NodeConfig(model=ModelSection(factory="mine:net", head="fc"))


@pytest.mark.parametrize(
    ("config", "metadata", "fix"),
    [
        (OWN, {}, 'architecture = "mlp"'),
        (OWN, {"architecture": '"mine:other"', "head": '"fc"'}, 'factory = "mine:other", head = "fc"'),
        (OWN, {"architecture": '"mine:net"', "head": '"last"'}, 'factory = "mine:net", head = "last"'),
        (CONFIG, {"architecture": '"mine:net"', "head": '"fc"'}, 'factory = "mine:net", head = "fc"'),
    ],
)
def test_a_file_of_another_module(home: Home, config: NodeConfig, metadata: dict[str, str], fix: str) -> None:
    """A file has to be of the factory and the head in node.toml; the error names the options to set."""
    save(home, METADATA | metadata)
    with pytest.raises(ConfigError, match="asks for") as raised:
        stored_model(home, config)
    assert fix in raised.value.fix


def test_a_file_of_the_own_module(home: Home) -> None:
    """Factory and head are those of node.toml."""
    save(home, METADATA | {"architecture": '"mine:net"', "head": '"fc"'})
    assert stored_model(home, OWN) == MODEL


def test_a_file_that_changed_since_it_was_saved(home: Home) -> None:
    """The digest in the journal decides; a file that the journal does not know is not judged."""
    record = save(home, METADATA)
    with (home.models / record.file).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(ConfigError, match="is damaged") as raised:
        require_intact(home, [record])
    assert record.sha256 in raised.value.message
    require_intact(home, [])


def test_leftovers_are_removed_and_versions_stay(home: Home) -> None:
    """Candidates and half-written files go: of one query, or at the start of all that nobody goes on with."""
    save(home, METADATA)
    one, other, third = (QueryId(digit * 16) for digit in "123")
    for query_id in (one, other, third):
        for name in (candidate_file(query_id, "phase1"), f".{candidate_file(query_id, 'phase2')}.x1"):
            (home.models / name).touch()
    (home.models / ".current.77").touch()

    def left() -> list[str]:
        names = {path.name for path in home.models.iterdir()}
        return sorted(names - {"current", version_file(3)})

    remove_candidates(home.models, one)
    assert left() == sorted(
        [".current.77"]
        + [candidate_file(each, "phase1") for each in (other, third)]
        + [f".{candidate_file(each, 'phase2')}.x1" for each in (other, third)]
    )
    remove_leftovers(home.models, under_way=[other])
    assert left() == [candidate_file(other, "phase1")]
    remove_leftovers(home.models, under_way=[])
    assert left() == []
    assert (home.models / "current").is_file()
