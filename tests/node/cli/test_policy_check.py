"""`policy check` tells from files alone what a node would answer its peers, as the node itself decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkt_node.cli.main import main
from qkt_node.config import load_config
from qkt_node.home import Home
from qkt_node.model_files import node_metadata
from qkt_node.new_home import create_home
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.identity.registrar import REVOKED_FILE, Registrar
from qkt_p2p.identity.trust import IdentityFiles, install_bundle
from qkt_p2p.privacy.policy import Action, Caller
from qkt_p2p.store.checkpoints import save_checkpoint, set_current
from qkt_p2p.types import ClassName, PeerId, StudentModel

FRIEND, REVOKED = PeerId("a" * 52), PeerId("b" * 51 + "a")
POLICY = f"""
[policy]
teach = ["role:lab", "peer:{FRIEND}"]
fetch_model = ["name:ward-*"]
media = ["moments", "weights"]
"""

Check = Callable[..., dict[str, Any]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A member of a federation that revoked a peer, with a model and a policy."""
    home, _ = create_home(tmp_path / "home")
    files = IdentityFiles(home.identity)
    registrar = Registrar(create_authority("fed"), tmp_path)
    install_bundle(home.identity, registrar.sign(files.request.read_bytes()).bundle)
    registrar.revoke(REVOKED)
    files.revoked.write_bytes((tmp_path / REVOKED_FILE).read_bytes())
    home.config_file.write_text(POLICY)
    classes = {
        name: tuple(map(ClassName, names))
        for name, names in {"local": "abcdf", "known": "abe", "scarce": "b", "trained": "abef"}.items()
    }
    model = StudentModel(1, (1, 8, 8), **classes)
    learned = json.dumps(model.trained)
    metadata = {
        "architecture": '"cnn"',
        "input_shape": "[1, 8, 8]",
        "trained": learned,
        **node_metadata(model),
    }
    save_checkpoint(home.models / "v0001.safetensors", {"x": np.zeros(1)}, metadata)
    set_current(home.models, "v0001.safetensors")
    return home


@pytest.fixture
def check(home: Home, capsys: pytest.CaptureFixture[str]) -> Check:
    """Return what the verb tells machines."""

    def checked(*options: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["policy", "check", "--home", str(home.root), "--format", "json", *options]) == 0
        data: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
        return data

    return checked


def verdicts(data: dict[str, Any]) -> dict[str, bool | None]:
    """Return what is allowed of actions and media."""
    return {each.get("action") or each["medium"]: each["allowed"] for each in data["actions"] + data["media"]}


def test_classes_that_it_teaches(check: Check) -> None:
    """What it has data of and knows; of the others the reason why not."""
    classes = {each["class"]: each for each in check()["classes"]}
    assert {name: each["allowed"] for name, each in classes.items()} == {
        "a": True,
        "b": None,
        "c": False,
        "d": False,
        "e": False,
        "f": None,
    }
    assert "few samples" in classes["b"]["why"]
    assert "knows it too little" in classes["c"]["why"]
    assert "no data of its own" in classes["e"]["why"]
    assert "only to askers" in classes["f"]["why"]


@pytest.mark.parametrize(
    ("options", "teach", "fetch", "weights"),
    [
        ((), True, True, True),
        (("--role", "lab"), True, None, None),
        (("--role", "ward"), None, None, None),
        (("--peer", FRIEND), True, None, None),
        (("--peer", "c" * 52), None, None, None),
        (("--peer", REVOKED), False, False, False),
    ],
)
def test_who_may(
    check: Check,
    home: Home,
    options: tuple[str, ...],
    teach: bool | None,
    fetch: bool | None,
    weights: bool | None,
) -> None:
    """What is known of a caller decides, or does not; and never against what the node itself decides."""
    data = check(*options)
    found = verdicts(data)
    assert (found["teach"], found["fetch_model"], found["weights"]) == (teach, fetch, weights)
    assert found["moments"] == teach
    policy = load_config(home.config_file, {}).peer_policy()
    if options and options[1] != REVOKED:
        caller = Caller(PeerId(data["peer"]), roles=(data["role"],))
        assert all(
            policy.allows(caller, Action(each["action"])) is each["allowed"]
            for each in data["actions"]
            if each["allowed"] is not None
        )


def test_a_node_on_its_own_answers_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before it joins, and before its first start has trained a model."""
    create_home(tmp_path)
    assert main(["policy", "check", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().err
    assert "this node has not joined a federation" in shown
    assert f"no class is taught before the first start: qkt-node start --home {tmp_path}" in shown
    assert "members of no federation" in shown


def test_what_names_nobody(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A role that no certificate can have, and two callers at once, are wrong usage."""
    for options in (["--role", "Big"], ["--peer", "x"], ["--peer", FRIEND, "--role", "lab"]):
        assert main(["policy", "check", "--home", str(home.root), *options]) == 2
    assert f"fix: qkt-node policy check --home {home.root} --role ROLE" in capsys.readouterr().err


def test_people_see_the_rules(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """As they are written, and what each medium is made of."""
    assert main(["policy", "check", "--home", str(home.root)]) == 0
    shown = capsys.readouterr().err
    assert f"members that role:lab or peer:{FRIEND} matches" in " ".join(shown.replace("│", " ").split())
    assert "statistics of its data" in shown


def test_a_budget_closes_the_media_that_cannot_carry_noise(check: Check, home: Home) -> None:
    """And what the others are made of has noise."""
    assert verdicts(check())["weights"] is True
    home.config_file.write_text(f"{POLICY}[privacy]\nepsilon = 8.0\n")
    media = {each["medium"]: each for each in check()["media"]}
    assert (media["weights"]["allowed"], media["moments"]["allowed"]) == (False, True)
    assert "[privacy] epsilon" in media["weights"]["why"]
    assert media["moments"]["made_of"] == "statistics of its data, with noise"
    assert media["weights"]["made_of"] == "its model itself"
