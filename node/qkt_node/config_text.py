"""NodeConfig -> the commented text of node.toml."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from qkt_node.settings import NodeConfig, sections

if TYPE_CHECKING:
    from pydantic import BaseModel

_HEADER: Final = """\
# Configuration of one QKT node. Options behind a # stand at their default.
# Each has a twin in the environment, which wins: [data] source is QKT_DATA_SOURCE; lists by commas.
"""
_ALWAYS_SET: Final = {("node", "name"), ("data", "source")}
"""Options that every owner should look at, written out even at their default."""


def config_text(config: NodeConfig) -> str:
    """Return a node.toml that loads as `config`; options at their default are commented out."""
    parts = [_HEADER]
    for name, model in sections().items():
        parts.append(_section_text(name, model, getattr(config, name)))
    return "\n".join(parts)


def _section_text(name: str, model: type[BaseModel], section: BaseModel) -> str:
    lines = [f"# {model.__doc__}", f"[{name}]"]
    for key, info in model.model_fields.items():
        value = getattr(section, key)
        lines += [f"# {line}" for line in (info.description or "").splitlines()]
        mark = "#" if value == info.default and (name, key) not in _ALWAYS_SET else ""
        lines.append(f"{mark}{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """Return a value of an option in TOML's notation, which for these types is JSON's but for U+007F."""
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
