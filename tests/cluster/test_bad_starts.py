"""Daemons that must not start: each says what is wrong and where, ends with 3, and changes nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from qkt_p2p.store.checkpoints import current_file
from tests.cluster.local_cluster import WAIT_SECONDS, command, processes_below, qkt, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qkt_node.home import Home


def refused(home: Home, **environ: str) -> str:
    """Return why a daemon does not start, after making sure that nothing is left of it."""
    answer = qkt("start", "--home", home.root, **environ)
    assert (answer.exit_code, answer.error["code"]) == (3, "config")
    assert answer.error["fix"]
    assert processes_below(home.root) == []
    assert not home.control_socket.exists()
    message: str = answer.error["message"]
    return message


def test_a_malformed_configuration(home: Home) -> None:
    """All mistakes are told at once, each with its line."""
    home.config_file.write_text('[node]\nlisten = 7447\n[model]\narchitecture = "rnn"\n[date]\n')
    message = refused(home)
    assert "3 mistakes" in message
    assert "node.toml:2 [node] listen" in message
    assert "node.toml:4 [model] architecture" in message
    assert "node.toml:5 [date]: unknown section, did you mean 'data'?" in message


def test_unreadable_data(home: Home) -> None:
    """A node without a model needs its data, and says which file it cannot read."""
    for path in home.models.iterdir():
        path.unlink()
    data = home.root / "scans.npz"
    data.write_bytes(b"no archive")
    assert str(data) in refused(home, QKT_DATA_SOURCE="scans.npz", QKT_DATA_CLASSES="")
    assert list(home.models.iterdir()) == []


def test_data_of_another_size(home: Home) -> None:
    """Data that the owner chose since must be what the model takes; both sizes are named, the model stays."""
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12), np.uint8)
    path, labels = home.root / "scans.npz", np.arange(20) % 2
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    message = refused(home, QKT_DATA_SOURCE="scans.npz", QKT_DATA_CLASSES="")
    assert "the data has inputs of (1, 12, 12), the model takes (1, 8, 8)" in message
    assert current_file(home.models) == home.models / "v0001.safetensors"


def test_a_model_of_another_architecture(home: Home) -> None:
    """The model in the home is kept, and both architectures are named."""
    message = refused(home, QKT_MODEL_ARCHITECTURE="cnn")
    assert "holds a 'mlp' model, node.toml asks for 'cnn'" in message
    assert current_file(home.models) == home.models / "v0001.safetensors"


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_model_file(home: Home, damage: str) -> None:
    """A model file that is not what was saved is never used."""
    path = home.models / "v0001.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-100])
    message = refused(home)
    assert f"the model file {path} is damaged" in message


def test_a_port_in_use(home: Home) -> None:
    """The port is tried before anything else: no training begins, and nothing is left behind."""
    for path in home.models.iterdir():
        path.unlink()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert refused(home, QKT_NODE_LISTEN=address) == f"cannot listen on {address}: address already in use"
    assert list(home.models.iterdir()) == []


def test_a_home_that_another_daemon_holds(home: Home) -> None:
    """The daemon that was there first goes on, and is named by its process id."""
    with running(home) as daemon:
        answer = qkt("start", "--home", home.root)
        assert (answer.exit_code, answer.error["code"]) == (3, "config")
        assert f"is held by the daemon with process id {daemon.pid}" in answer.error["message"]
        status = qkt("status", "--home", home.root)
        assert (status.exit_code, status.data["pid"]) == (0, daemon.pid)
        mode = stat.S_IMODE(home.control_socket.stat().st_mode)
        assert (mode, home.control_socket.stat().st_uid) == (0o600, os.getuid())
    assert daemon.returncode == 0


def test_a_bundle_of_another_federation(home: Home) -> None:
    """`join` ends with 5 and leaves the node in its federation."""
    authority = home.root / "other"
    assert qkt("ca", "init", "--home", authority, "--federation", "other").exit_code == 0
    request = home.identity / "request.pem"
    signed = qkt("ca", "sign", request, "--home", authority)
    roots = (home.identity / "roots.pem").read_bytes()
    answer = qkt("join", "--home", home.root, "--certificate", signed.data["bundle"])
    assert (answer.exit_code, answer.error["code"]) == (5, "not-trusted")
    assert "the bundle is of another" in answer.error["message"]
    assert (home.identity / "roots.pem").read_bytes() == roots


@pytest.fixture
def terminal() -> Iterator[None]:
    """What is started hears when its terminal is closed, also where nohup runs these tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_training_that_is_interrupted(home: Home, number: signal.Signals) -> None:
    """A daemon that is told to stop while it trains stops at once with its worker, and saves nothing."""
    for path in home.models.iterdir():
        path.unlink()
    daemon = subprocess.Popen(
        [*command("start", "--home", home.root), "--format", "json"], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: psutil.Process(daemon.pid).children(), "the worker is there")
    status = qkt("status", "--home", home.root)
    assert (status.exit_code, "does not answer yet" in status.error["message"]) == (4, True)
    daemon.send_signal(number)
    answer, _ = daemon.communicate(timeout=WAIT_SECONDS)
    assert (daemon.returncode, json.loads(answer)["data"]) == (0, {})
    assert list(home.models.iterdir()) == []
    assert processes_below(home.root) == []
