"""A worker program without any learning: `python stand_in.py HOME FD` speaks the worker's lines."""

from __future__ import annotations

import json
import os
import socket
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any


def environment() -> str:
    """Return what this process was started with."""
    found = {key: os.environ.get(key, "") for key in ("TMPDIR", "OMP_NUM_THREADS")}
    return json.dumps({"home": sys.argv[1], "pid": os.getpid(), **found})


def phase1() -> None:
    """End the process as often as the file `crashes` in the home says, and go through after that."""
    crashes = Path(sys.argv[1], "crashes")
    if left := int(crashes.read_text()):
        crashes.write_text(str(left - 1))
        os._exit(7)


def stem() -> str:
    """Return a text in base64, after the same crashes."""
    phase1()
    return b64encode(b"stem").decode()


def preferred_media() -> list[str]:
    """Return two media, after the same crashes."""
    phase1()
    return ["moments", "features"]


RESULTS: dict[str, Callable[[], str | list[str] | None]] = {
    "environment": environment,
    "phase1": phase1,
    "stem": stem,
    "preferred_media": preferred_media,
    "bank": lambda: "bank",
}


def answer_of(operation: str) -> dict[str, Any]:
    """Return how an operation ends."""
    if operation == "fail":
        return {"error": {"code": "config", "message": "no data", "fix": "get some"}}
    return {"result": RESULTS[operation]()}


def operation_of(frame: dict[str, Any]) -> str:
    """Return what to do: a bank is made, or its making never ends, by the seed of its order.

    "again" hangs the first time that any process of the home is asked for it.
    """
    name = str(frame.get("operation", ""))
    if name == "again":
        asked = Path(sys.argv[1], "asked")
        if asked.exists():
            return "bank"
        asked.touch()
        return "hang"
    if name != "synthesize":
        return name
    return {1: "bank", 2: "obey", 3: "hang"}[frame["argument"]["request"]["seed"]]


def main() -> None:
    """Answer each request as its operation's name says, until the other side closes."""
    connection = socket.socket(fileno=int(sys.argv[2]))

    def send(frame: dict[str, Any]) -> None:
        connection.sendall(json.dumps(frame).encode() + b"\n")

    for line in connection.makefile("rb"):
        frame = json.loads(line)
        number, operation = frame.get("id", 0), operation_of(frame)
        match operation:
            case "echo":
                send({"id": number, "progress": {"step": "s", "done": 1, "total": 2, "message": "half"}})
                send({"id": number, "result": frame["argument"]})
            case "environment" | "phase1" | "stem" | "preferred_media" | "bank" | "fail":
                send({"id": number, **answer_of(operation)})
            case "release":
                # What hung ends after all; the argument is its number.
                send({"id": int(frame["argument"]), "result": "late"})
                send({"id": number, "result": "released"})
            case "crash":
                os._exit(7)
            case "babble":
                connection.sendall(b"no json\n")
            case "obey" | "hang":
                send({"id": number, "progress": {"step": "s", "done": 0, "total": 0, "message": "begun"}})
                obedient = operation == "obey"
            case _ if "cancel" in frame and obedient:
                send(
                    {"id": frame["cancel"], "error": {"code": "cancelled", "message": "given up", "fix": ""}}
                )


if __name__ == "__main__":
    main()
