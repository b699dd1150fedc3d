"""`doctor` finds what would keep a node from working, and says what mends it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkt_node import doctor
from qkt_node.cli.main import main
from qkt_node.home import Home, lock_home
from qkt_node.new_home import create_home
from qkt_p2p.datasets import Dataset, LabelledData, save_npz
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.trust import IdentityFiles, install_bundle
from qkt_p2p.privacy.accountant import mu_of
from qkt_p2p.privacy.ledger import Release
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import ClassName

Examine = Callable[[str], dict[str, Any]]
LOOPBACK = '[node]\nlisten = "127.0.0.1:0"\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A member of a federation that was never started, on a machine of its own."""
    home, _ = create_home(tmp_path / "home")
    request = IdentityFiles(home.identity).request.read_bytes()
    install_bundle(home.identity, sign_request(create_authority("fed"), request).bundle)
    return home


@pytest.fixture
def examine(home: Home, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Return each check's level and message with the given settings, and the exit code."""

    def examined(settings: str) -> dict[str, Any]:
        home.config_file.write_text(
            f"{settings}\n[discovery]\nmdns = false\n" if "mdns" not in settings else settings
        )
        capsys.readouterr()
        code = main(["doctor", "--home", str(home.root), "--format", "json"])
        told = json.loads(capsys.readouterr().out)
        assert told["exit_code"] == code
        found = {
            each["check"]: (each["level"], each["message"], each["fix"]) for each in told["data"]["checks"]
        }
        assert code == (3 if any(level == "error" for level, *_ in found.values()) else 0)
        return found

    return examined


def levels(found: dict[str, Any]) -> dict[str, str]:
    return {check: level for check, (level, *_) in found.items() if level != "ok"}


def test_a_node_in_order(examine: Examine) -> None:
    """Every check says what it saw; none asks for anything."""
    found = examine('[node]\nlisten = "127.0.0.1:0"\nannounce = ["a.example:7447"]\n')
    assert levels(found) == {}
    assert not any(fix for *_, fix in found.values())
    assert {"home", "disk", "settings", "certificate", "mdns", "port", "addresses", "data", "model"} == {
        *found
    }
    assert "samples to train on: 0 (" in found["data"][1]
    assert "by this machine's clock" in found["certificate"][1]


def test_what_others_could_read(home: Home, examine: Examine) -> None:
    """Keys are an error, the rest of the home a warning; the fix can be typed."""
    home.root.chmod(0o755)
    assert levels(examine(LOOPBACK)) == {"home": "warning", "addresses": "warning"}
    home.identity.chmod(0o750)
    found = examine(LOOPBACK)
    assert found["home"] == (
        "error",
        f"users other than its owner may look into {home.identity} (0750)",
        f"chmod go= {home.identity}",
    )


def test_settings_that_cannot_be_read_end_it(examine: Examine) -> None:
    """What depends on them is not looked at."""
    found = examine("[node]\nseed = 'x'")
    assert levels(found) == {"settings": "error"}
    assert {*found} == {"home", "disk", "settings"}


def test_a_node_that_has_not_joined(home: Home, examine: Examine) -> None:
    """The other checks go on."""
    IdentityFiles(home.identity).certificate.unlink()
    found = examine(LOOPBACK)
    assert levels(found) == {"certificate": "error", "addresses": "warning"}
    assert "qkt-node join TOKEN" in found["certificate"][2]


def test_a_port_that_is_taken(home: Home, examine: Examine) -> None:
    """By somebody else it is an error; by this home's daemon it is as it should be."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = f'[node]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n'
        found = examine(settings)
        assert found["port"][0] == "error"
        assert "set [node] listen" in found["port"][2]
        with lock_home(home):
            assert examine(settings)["port"][0] == "ok"


def test_bootstrap_peers_are_dialed(examine: Examine) -> None:
    """One that takes the connection, one that does not, and a name that there is not."""
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = (each.getsockname()[1] for each in (there, closed))
        for port, level in zip(ports, ("ok", "warning"), strict=True):
            found = examine(f'[discovery]\nmdns = false\nbootstrap = ["127.0.0.1:{port}"]\n')
            assert found["bootstrap"][0] == level
    assert "cannot be dialed" in found["bootstrap"][1]


def test_data_and_model_are_read(home: Home, examine: Examine) -> None:
    """Data that are not there, and a model that is none."""
    (home.models / "v0001.safetensors").write_bytes(b"nothing")
    (home.models / "current").symlink_to("v0001.safetensors")
    found = examine(f'{LOOPBACK}[data]\nsource = "missing.npz"\n')
    assert levels(found) == {"addresses": "warning", "data": "error", "model": "error"}
    assert "there is no data at" in found["data"][1]


def test_evaluation_data_among_the_training_data(home: Home, examine: Examine) -> None:
    """How much of the evaluation data measures nothing is told before a query is judged on the rest."""
    inputs = np.random.default_rng(0).random((30, 1, 8, 8), np.float32)
    data = LabelledData(inputs, np.arange(30) % 2, (ClassName("a"), ClassName("b")))
    save_npz(home.root / "mine.npz", Dataset(data.select(np.arange(20)), data.select(np.arange(13, 30))))
    named = '[data]\nsource = "mine.npz"\nevaluation = "mine.npz"\n'
    found = examine(f'{LOOPBACK}announce = ["a.example:7447"]\n{named}')
    assert levels(found) == {}
    assert found["data"][1].endswith("; 7 of evaluation left out, because source holds them, too")


@pytest.mark.parametrize(("free", "level"), [(2**25, "error"), (2**29, "warning"), (2**31, "ok")])
def test_disk_space(monkeypatch: pytest.MonkeyPatch, home: Home, free: int, level: str) -> None:
    """A disk on which no response fits is told before a query fails on it."""
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert doctor._space(home).level == level


def test_people_get_each_fix_on_a_line(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A table would break it."""
    home.identity.chmod(0o750)
    home.config_file.write_text(f"{LOOPBACK}[discovery]\nmdns = false\n")
    assert main(["doctor", "--home", str(home.root)]) == 3
    shown = capsys.readouterr().err
    assert f"\nto mend home: chmod go= {home.identity}\n" in shown
    assert "error: a check failed: home" in shown


def test_a_budget_that_is_spent(home: Home, examine: Examine) -> None:
    """Before that it says what is left; without a budget there is no such check."""
    budget = f"{LOOPBACK}[privacy]\nepsilon = 2.0\n"
    assert "privacy" not in examine(LOOPBACK)
    assert examine(budget)["privacy"] == ("ok", "a budget of epsilon 2 for each class", "")
    with closing(Journal(home.database)) as journal:
        mu = mu_of(2.0, 1e-6)
        journal.note_release(Release("1", ClassName("cat"), "inputs", mu, b"noisy"), most_mu=mu)
    level, message, fix = examine(budget)["privacy"]
    assert (level, "nothing more may be released of cat" in message) == ("warning", True)
    assert "[privacy] epsilon" in fix
    level, message, _ = examine(budget.replace("2.0", "8.0"))["privacy"]
    assert (level, "10 releases left" in message) == ("ok", True)
