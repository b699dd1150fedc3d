"""The command line as real processes: exit codes, the JSON object, and what stays silent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = [sys.executable, "-c", "import sys; from qkt_node.cli.main import main; sys.exit(main())"]
LEARNING = ("torch", "numpy", "sklearn", "onnx", "matplotlib")
HEAVY = (*LEARNING, "grpc", "pydantic", "cryptography", "rich", "asyncio", "qkt_p2p.types")


def run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one command line with an environment of its own."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        # The code under test, wherever that is imported from.
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environ},
    )


def envelope(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object on stdout, whose exit code is the process's."""
    assert finished.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(finished.stdout)
    assert list(found) == ["schema", "command", "status", "exit_code", "data", "error"]
    assert found["schema"] == "qkt/1"
    assert found["exit_code"] == finished.returncode
    assert "Traceback" not in finished.stderr
    return found


def test_help_is_quick_because_it_imports_little() -> None:
    """--help names the verbs, and loads none of the packages that take long to import."""
    script = (
        "import sys; from qkt_node.cli.main import main; code = main(['--help']);"
        f"sys.exit(code or ' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert all(verb in finished.stdout for verb in ("init", "join", "ca"))


def test_asking_a_daemon_loads_what_the_line_to_it_needs_and_no_more(tmp_path: Path) -> None:
    """Neither keys, nor settings, nor anything that learns; nothing of the line where there is no home."""
    (tmp_path / "node.toml").touch()
    script = (
        "import sys; from qkt_node.cli.main import main; code = main(['status', '--home', sys.argv[1]]);"
        f"print(code, *(name for name in {(*LEARNING, 'cryptography', 'grpc')} if name in sys.modules))"
    )
    for home, told in ((tmp_path, "4 grpc\n"), (tmp_path / "none", "3\n")):
        done = subprocess.run(
            [sys.executable, "-c", script, home], capture_output=True, text=True, check=True
        )
        assert done.stdout == told


def test_enrolment_by_files(tmp_path: Path) -> None:
    """init, ca init, ca sign, join: each answers with one JSON object that leads to the next."""
    made = envelope(run("init", "--home", tmp_path / "a", "--name", "Ward 7", "--format", "json"))
    assert (made["command"], made["status"], made["error"]) == ("init", "ok", None)
    (tmp_path / "secret").write_text("passphrase\n")
    passphrase = {"QKT_PASSPHRASE_FILE": str(tmp_path / "secret")}
    founded = envelope(
        run("ca", "init", "--home", tmp_path / "ca", "--federation", "fed", QKT_FORMAT="json", **passphrase)
    )
    signing = ("ca", "sign", made["data"]["request"], "--home", tmp_path / "ca", "--format", "json")
    assert envelope(run(*signing))["error"]["code"] == "config"
    signed = envelope(run(*signing, "--out", tmp_path / "bundle.pem", **passphrase))
    assert signed["data"]["peer_id"] == made["data"]["peer_id"]
    joined = envelope(
        run(
            "join",
            "--certificate",
            signed["data"]["bundle"],
            "--format",
            "jsonl",
            QKT_HOME=str(tmp_path / "a"),
        )
    )
    assert joined["data"]["federation_fingerprints"] == [founded["data"]["fingerprint"]]
    assert joined["data"]["federation"] == "fed"


def test_people_get_sentences_on_stderr_when_stdout_is_a_pipe(tmp_path: Path) -> None:
    """The answer and the errors for people leave stdout empty, and an error shows its fix."""
    finished = run("init", "--home", tmp_path / "a")
    assert (finished.returncode, finished.stdout) == (0, "")
    assert f"ca sign {tmp_path}/a/identity/request.pem" in finished.stderr
    again = run("init", "--home", tmp_path / "a")
    assert (again.returncode, again.stdout) == (3, "")
    assert again.stderr == (
        f"error: {tmp_path}/a/node.toml exists: this is a node's home already\n"
        f"  fix: qkt-node start --home {tmp_path}/a\n"
    )


def test_a_foreign_bundle_ends_with_the_code_of_distrust(tmp_path: Path) -> None:
    """A bundle of another node's key is refused with exit code 5."""
    for name in ("a", "b"):
        assert run("init", "--home", tmp_path / name).returncode == 0
    founded = run("ca", "init", "--home", tmp_path, "--federation", "fed")
    assert (founded.returncode, "warning: its key is not encrypted" in founded.stderr) == (0, True)
    request = tmp_path / "a" / "identity" / "request.pem"
    signed = run("ca", "sign", request, "--home", tmp_path, "--out", tmp_path / "bundle")
    assert signed.returncode == 0
    finished = run("join", "--home", tmp_path / "b", "--certificate", tmp_path / "bundle", "--format=json")
    assert envelope(finished)["error"]["code"] == "not-trusted"
    assert finished.returncode == 5


@pytest.mark.parametrize(
    ("arguments", "command", "message"),
    [
        ([], "", "missing command"),
        (["inti"], "", "did you mean 'init'"),
        (["init", "--hme", "x"], "init", "no such option: --hme"),
        (["init"], "init", "missing option '--home'"),
        (["ca", "sign", "--home", "x"], "ca sign", "missing argument 'request'"),
        (["query", "--home", "x", "--classes", "a", "--seed", str(2**64)], "query", "less than or equal"),
        (["cluster", "query", "--seed", str(2**64)], "cluster query", "less than or equal"),
    ],
)
def test_wrong_usage(arguments: list[str], command: str, message: str) -> None:
    """A command line that cannot be parsed ends with 2, in JSON too, and names the help to read."""
    found = envelope(run(*arguments, QKT_FORMAT="json"))
    assert (found["exit_code"], found["command"], found["error"]["code"]) == (2, command, "usage")
    assert message in found["error"]["message"].lower()
    assert found["error"]["fix"] == f"qkt-node {command} --help".replace("  ", " ")


def test_the_version_is_told() -> None:
    """--version is one line on stdout."""
    finished = run("--version")
    assert finished.returncode == 0
    assert finished.stdout.startswith("qkt-node 0.")
