"""Makes the commands of a fix complete: what a daemon or the library writes knows no --home."""

import re
from pathlib import Path
from typing import Final

from qkt_p2p.commands import PROGRAM, command

_OF_A_NODE: Final = re.compile(
    rf"{PROGRAM} (?:queries (?:list|(?:show|watch|cancel) \w+)|models list|policy check"
    r"|start|query|status|peers|queries|models|why|doctor|renew|rotate)\b"
)
"""Commands about the node whose home the owner named; `init`, `join` and `ca` are about another one."""


def with_home(fix: str, home: Path | None) -> str:
    """Return `fix`, in which each command about this node that names no home names `home`."""
    if home is None:
        return fix
    here = command("--home", home).removeprefix(PROGRAM)
    parts = re.split(rf"(?=\b{PROGRAM} )", fix)
    return "".join(
        part if "--home" in part else _OF_A_NODE.sub(lambda found: f"{found[0]}{here}", part, count=1)
        for part in parts
    )
