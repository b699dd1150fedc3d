"""Flower's newer way: a SuperLink between a ServerApp, which asks, and the node that answers it.

The app in superlink_app makes the exchanges, as `flwr run` starts it, over HTTPS that proves the SuperLink
alone; questions and answers pass through the SuperLink's memory. The node is a SuperNode, which starts a
ClientApp for each question, or superlink_end.py: the SuperNode's own connection, without its pauses and the
second process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from rival_transports.processes import HERE, end, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rival_transports.processes import Taken

LICENSE: Final = HERE.parents[1] / "LICENSE"
LONGEST_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 0.1
CONNECTION: Final = """\
[superlink]
default = "bench"

[superlink.bench]
address = "127.0.0.1:{port}"
root-certificates = "{roots}"
"""


def exchanges(python: str, folder: Path, mebibytes: int, *, count: int, pauses: bool = False) -> list[Taken]:
    """Return what each exchange of `count` took, all in one run of the app.

    With `pauses` the node is a SuperNode and only seconds are told.
    """
    with TemporaryDirectory(dir=folder) as work:
        flower = _Flower(Path(python).parent, folder, Path(work), free_port())
        config: dict[str, object] = {"mebibytes": mebibytes, "exchanges": count, "pauses": pauses}
        with flower.superlink() as between:
            if pauses:
                with flower.supernode():
                    return flower.run(config)
            words = (str(flower.port), str(folder), str(mebibytes), work)
            with end(python, "superlink_end.py", words, folder=folder) as sender:
                return flower.run({**config, "sender": sender.pid, "between": between.pid})


@dataclass(frozen=True, slots=True)
class _Flower:
    """Flower's programs in `programs`, with their state in `work`; certificates are in `folder`."""

    programs: Path
    folder: Path
    work: Path
    port: int

    @contextmanager
    def superlink(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a SuperLink until the block ends; it listens at its beginning."""
        shown = {"ca-certfile": "ca.crt", "certfile": "node.crt", "keyfile": "node.key"}
        words = [word for name, file in shown.items() for word in (f"--ssl-{name}", str(self.folder / file))]
        words += ["--port", str(self.port), "--disable-runtime-dependency-installation"]
        with self._running("flower-superlink", *words) as process:
            self._wait_until_it_listens(process)
            yield process

    @contextmanager
    def supernode(self) -> Iterator[None]:
        """Run a SuperNode of it until the block ends."""
        roots = ("--root-certificates", str(self.folder / "ca.crt"))
        words = ("--superlink", f"127.0.0.1:{self.port}", *roots, "--port", str(free_port()))
        with self._running("flower-supernode", *words):
            yield

    def run(self, config: dict[str, object]) -> list[Taken]:
        """Return what the app tells of a run that is configured so."""
        app, out = self.work / "app", self.work / "turns.json"
        shutil.copytree(HERE / "superlink_app", app)
        shutil.copy(LICENSE, app)
        shutil.copy(HERE / "ends.py", app / "bench_app")
        connection = CONNECTION.format(port=self.port, roots=self.folder / "ca.crt")
        (self.work / "config.toml").write_text(connection)
        chosen = self.work / "run.toml"
        chosen.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
        with chosen.open("a") as file:
            file.write(f"out = {json.dumps(str(out))}\n")
        with self._running("flwr", "run", str(app), "bench", "--run-config", str(chosen)) as started:
            started.wait(LONGEST_SECONDS)
        deadline = time.monotonic() + LONGEST_SECONDS
        while not out.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Flower's run told nothing:\n{self._log.read_text()[-4000:]}")
            time.sleep(LOOK_SECONDS)
        turns: list[Taken] = json.loads(out.read_text())
        return turns

    @property
    def _log(self) -> Path:
        return self.work / "log"

    @contextmanager
    def _running(self, program: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program, and with it all that it starts."""
        environment = {
            **os.environ,
            "FLWR_HOME": str(self.work),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PATH": f"{self.programs}:{os.environ['PATH']}",
        }
        command = [str(self.programs / program), *words]
        with (
            self._log.open("ab") as log,
            subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.work, env=environment, start_new_session=True
            ) as process,
        ):
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if process.poll() is not None:
                raise RuntimeError(f"Flower's SuperLink ended:\n{self._log.read_text()[-4000:]}")
            time.sleep(LOOK_SECONDS)
