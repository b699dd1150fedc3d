"""Makes a node's home; apart from home.py, because whoever only uses one needs no keys and no settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qkt_node.config_text import config_text
from qkt_node.home import Home, home_at, lock_home
from qkt_node.settings import NodeConfig, NodeSection, parse_node_name
from qkt_p2p.commands import command
from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.identity.files import make_private_directory, save_file
from qkt_p2p.identity.trust import create_identity
from qkt_p2p.limits import MAX_NAME_CHARACTERS

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_p2p.types import PeerId


def create_home(path: Path, name: str = "") -> tuple[Home, PeerId]:
    """Make a home with a commented node.toml, a key and a certificate request.

    The node's name defaults to the directory's.
    Never overwrites: raises ConfigError where a node.toml exists, and keeps a key that is there, so
    that an interrupted call can be repeated. node.toml is written last.
    """
    home = home_at(path)
    if name:
        _check_name(name)
    if home.config_file.exists():
        raise ConfigError(
            f"{home.config_file} exists: this is a node's home already",
            fix=command("start", "--home", home.root),
        )
    make_private_directory(home.root)
    with lock_home(home):
        for directory in (home.models, home.reports):
            make_private_directory(directory)
        peer = create_identity(home.identity)
        config = NodeConfig(node=NodeSection(name=name or _name_from(home.root)))
        save_file(home.config_file, config_text(config).encode("utf-8"))
    return home, peer


def _name_from(root: Path) -> str:
    """Return the directory's name, made fit to be a node's."""
    printable = "".join(character for character in root.name if character.isprintable())
    return re.sub(r"\s+", " ", printable).strip()[:MAX_NAME_CHARACTERS].strip() or "node"


def _check_name(name: str) -> None:
    try:
        parse_node_name(name)
    except ValueError as error:
        raise UsageError(
            f"the name {name[:80]!r} {error}", fix="qkt-node init --home DIR --name NAME"
        ) from error
