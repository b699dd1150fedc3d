"""A home is made once, held by one process, and never overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest

from qkt_node.config import load_config
from qkt_node.home import MAX_SOCKET_PATH_BYTES, Home, lock_home, open_home
from qkt_node.new_home import create_home
from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.identity.keys import load_key, peer_id_of

HOLDER = """
import sys
from pathlib import Path
from qkt_node.home import Home, lock_home
with lock_home(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_home_is_complete_and_private(tmp_path: Path) -> None:
    """Configuration, key, request and directories are there, and only the owner can look inside."""
    home, peer = create_home(tmp_path / "node", "Ward 7")
    assert load_config(home.config_file, {}).node.name == "Ward 7"
    assert peer_id_of(load_key(home.identity / "key.pem").public_key()) == peer
    assert {path.name for path in home.root.iterdir()} == {
        "node.toml",
        "identity",
        "models",
        "reports",
        "lock",
    }
    assert (home.identity / "request.pem").is_file()
    assert home.root.stat().st_mode & 0o777 == home.identity.stat().st_mode & 0o777 == 0o700
    assert open_home(tmp_path / "node") == home


@pytest.mark.parametrize(("directory", "name"), [("ward 7", "ward 7"), ("a\nb", "ab"), ("x" * 90, "x" * 64)])
def test_the_name_defaults_to_the_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: str, name: str
) -> None:
    """Whatever the directory is called, the node's name is a valid one."""
    monkeypatch.setattr("qkt_node.home.MAX_SOCKET_PATH_BYTES", 4096)
    home, _ = create_home(tmp_path / directory)
    assert load_config(home.config_file, {}).node.name == name


def test_an_existing_home_is_not_touched(tmp_path: Path) -> None:
    """A second `init` is an error and changes no byte."""
    home, _ = create_home(tmp_path)
    home.config_file.write_text("[node]\nname = 'mine'\n")
    key = (home.identity / "key.pem").read_bytes()
    with pytest.raises(ConfigError, match="node's home already"):
        create_home(tmp_path)
    assert home.config_file.read_text() == "[node]\nname = 'mine'\n"
    assert (home.identity / "key.pem").read_bytes() == key


def test_an_interrupted_init_can_be_repeated_with_the_same_key(tmp_path: Path) -> None:
    """Where node.toml, written last, is missing, `init` goes on and keeps the key."""
    home, peer = create_home(tmp_path)
    home.config_file.unlink()
    assert create_home(tmp_path)[1] == peer


@pytest.mark.parametrize("name", [" a", "a\n", "x" * 65])
def test_unusable_names(tmp_path: Path, name: str) -> None:
    """A bad name is a usage error, and nothing is made."""
    with pytest.raises(UsageError, match="must be 1 to 64 printable"):
        create_home(tmp_path / "node", name)
    assert not (tmp_path / "node").exists()


def test_a_path_too_long_for_the_control_socket(tmp_path: Path) -> None:
    """The limit is of unix sockets and counts bytes; it is told before anything is made."""
    space = MAX_SOCKET_PATH_BYTES - len(str(tmp_path / "x" / "control.sock")) + 1
    create_home(tmp_path / ("x" * space))
    too_long = tmp_path / ("x" * (space + 1))
    with pytest.raises(ConfigError, match="has 108 bytes"):
        create_home(too_long)
    assert not too_long.exists()


def test_what_is_no_home(tmp_path: Path) -> None:
    """An empty directory names `init`; a file in the way is told."""
    with pytest.raises(ConfigError) as caught:
        open_home(tmp_path)
    assert caught.value.fix == f"qkt-node init --home {tmp_path}"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make the directory"):
        create_home(tmp_path / "file")


def test_a_home_is_held_by_one_process(tmp_path: Path) -> None:
    """The second process is told who holds it; when the holder is killed the home is free."""
    home = Home(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=f"daemon with process id {holder.pid}$") as caught,
            lock_home(home),
        ):
            pass
        assert caught.value.fix == f"qkt-node status --home {tmp_path}"
        holder.kill()
        holder.wait()
    with lock_home(home):
        assert home.lock_file.read_text().strip().isdecimal()


def test_a_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    """Holding twice in turn works, and a free lock names no process."""
    home = Home(tmp_path)
    for _ in range(2):
        with lock_home(home):
            pass
        assert home.lock_file.read_text() == ""
