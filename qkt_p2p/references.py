"""The owner's own code, named in node.toml by "package.module:function"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from qkt_p2p.errors import ConfigError

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnModule:
    """A model of the owner's: the function that makes it, and the path within it of its last nn.Linear."""

    factory: str
    head: str


def is_reference(text: str) -> bool:
    """Tell whether `text` has the form "package.module:function"."""
    return _REFERENCE.fullmatch(text) is not None


def call_reference(reference: str, what: str, **arguments: Any) -> Any:
    """Return what the function named by `reference` makes of `arguments`.

    Raises ConfigError, saying that `what` cannot be loaded, where it is not found or fails.
    """
    module, _, name = reference.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot load {what} from {reference}: {error}", fix="check PYTHONPATH and the name"
        ) from error
    try:
        return function(**arguments)
    except Exception as error:
        raise ConfigError(f"{reference}() failed: {type(error).__name__}: {error}") from error
