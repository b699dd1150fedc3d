"""The owner's socket: who can open it, and that every call on it is answered or refused in words."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from qkt_node.control.client import ControlClient
from qkt_node.control.server import ControlServer, ControlServicer
from qkt_node.control.target import unix_target
from qkt_p2p.errors import NotTrustedError
from qkt_p2p.pb import control_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ControlService"]


class Refusing:
    """Answers no call, but says so as a part of the daemon would."""

    def __getattr__(self, name: str) -> Any:
        return self._stream if SERVICE.methods_by_name[name].server_streaming else self._unary

    async def _unary(self, request: object, context: object) -> object:
        raise NotTrustedError("not now", fix="qkt-node status")

    async def _stream(self, request: object, context: object) -> Any:
        raise NotTrustedError("not now", fix="qkt-node status")
        yield


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def serve(socket: Path) -> ControlServer:
    return ControlServer(socket, cast("ControlServicer", Refusing()))


@pytest.mark.parametrize("method", list(SERVICE.methods), ids=lambda method: str(method.name))
async def test_every_call_passes_the_guard(socket: Path, method: Any) -> None:
    """What a part of the daemon refuses reaches the owner as that error, on every method."""
    server = serve(socket)
    await server.start()
    async with grpc.aio.insecure_channel(unix_target(socket)) as channel:
        path = f"/{SERVICE.full_name}/{method.name}"
        kind: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = kind(path)(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call.read() if method.server_streaming else call)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert dict(caught.value.trailing_metadata() or ())["qkt-error-code"] == "not-trusted"
    await server.stop()


async def test_the_owner_gets_the_error_with_its_fix(socket: Path) -> None:
    """Reloading the trust tells what is wrong with it, and what to do."""
    server = serve(socket)
    await server.start()
    async with grpc.aio.insecure_channel(unix_target(socket)) as channel:
        with pytest.raises(NotTrustedError, match="not now") as caught:
            await ControlClient(channel).reload_trust()
    assert caught.value.fix == "qkt-node status"
    await server.stop()


async def test_only_its_owner_can_open_the_socket(socket: Path) -> None:
    """Its mode is the access control: no other user of the machine gets through."""
    server = serve(socket)
    await server.start()
    mode, outcome = await asyncio.to_thread(tried_by_another_user, socket)
    await server.stop()
    assert mode == 0o600
    assert outcome in {"PermissionError", "not tried"}


def tried_by_another_user(socket: Path) -> tuple[int, str]:
    """Return the socket's mode, and how it ends when a user without rights connects; only root can try."""
    mode = stat.S_IMODE(socket.stat().st_mode)
    if os.geteuid() != 0:
        return mode, "not tried"
    for directory in list(socket.parents)[:4]:
        directory.chmod(0o755)
    attempt = (
        "import socket, sys\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('connected')\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    command = ["/usr/bin/env", "python3", "-c", attempt, str(socket)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, user=65534, cwd="/")
    return mode, done.stdout.strip()
