"""node.toml and its twins in the environment -> NodeConfig, with every mistake reported at once.

A mistake is one line: where it is (`node.toml:LINE [section] key`, or the variable's name), what is
wrong, what was found.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from qkt_node.settings import NodeConfig, sections
from qkt_p2p.commands import command
from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

__all__ = ["NodeConfig", "environment_name", "load_config", "without_settings"]

_Place = tuple[str, ...]
"""(section,) or (section, key)."""

_SECTION: Final = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_SYNTAX_PLACE: Final = re.compile(r" \(at line (\d+), column \d+\)$")
_MESSAGES: Final = {
    "bool_type": "must be true or false",
    "model_attributes_type": "must be a section",
    "model_type": "must be a section",
    "string_too_short": "must not be empty",
    "string_type": "must be text in quotes",
    "too_long": "must name at most {max_length}",
    "too_short": "must name at least {min_length}",
    "tuple_type": 'must be a list in brackets, as ["a", "b"]',
}
"""For pydantic's kinds of errors of which its own words are about Python; braces hold what it tells."""
_LIKENESS: Final = 0.75
"""difflib ratio from which a name counts as misspelt: "lisen" is (0.91), "port" for "announce" is not."""


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> NodeConfig:
    """Read `path` and the QKT_<SECTION>_<KEY> variables of `environ`, which win.

    Raises ConfigError with one line for each mistake.
    """
    text = _read(path)
    values = _parse(text, path)
    places = _places_in(text, path.name)
    mistakes = list(_take_environment(values, places, environ))
    try:
        config = NodeConfig.model_validate(values)
    except ValidationError as error:
        mistakes += [_describe(each, places, path.name) for each in _own_mistakes(error.errors())]
    if mistakes:
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise ConfigError(f"{path} or its environment has {count}:\n{lines}", fix=f"edit {path}")
    return config


def environment_name(section: str, key: str) -> str:
    """Return the variable that is the twin of an option: QKT_DATA_SOURCE for [data] source."""
    return f"QKT_{section}_{key}".upper()


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without what is meant for this machine's own node: its home and its options."""
    prefixes = tuple(environment_name(section, "") for section in sections())
    return {
        name: value for name, value in environ.items() if name != "QKT_HOME" and not name.startswith(prefixes)
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}", fix=command("init", "--home", path.parent)) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})", fix=f"edit {path}") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = str(error)
        place = _SYNTAX_PLACE.search(message)
        line = f":{place[1]}" if place else ""
        what = _SYNTAX_PLACE.sub("", message)
        raise ConfigError(
            f"{path}{line} is not TOML: {what[:1].lower()}{what[1:]}", fix=f"edit {path}"
        ) from error
    return {section: _with_tuples(values) for section, values in document.items()}


def _with_tuples(values: object) -> object:
    """Turn the arrays of a section into tuples, which is what frozen models hold."""
    if not isinstance(values, dict):
        return values
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _places_in(text: str, file_name: str) -> dict[_Place, str]:
    """Find the line of each section and key; where a file is written unusually, some are not found."""
    places: dict[_Place, str] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _SECTION.match(line):
            section = found[1]
            places.setdefault((section,), f"{file_name}:{number} [{section}]")
        elif found := _KEY.match(line):
            place = (section, found[1]) if section else (found[1],)
            label = f"[{section}] {found[1]}" if section else found[1]
            places.setdefault(place, f"{file_name}:{number} {label}")
    return places


def _take_environment(
    values: dict[str, Any], places: dict[_Place, str], environ: Mapping[str, str]
) -> Iterator[str]:
    """Put the variables into `values` and `places`; yield a mistake for each that looks misspelt."""
    for section, model in sections().items():
        prefix = environment_name(section, "")
        for variable in sorted(name for name in environ if name.startswith(prefix)):
            key = variable.removeprefix(prefix).lower()
            info = model.model_fields.get(key)
            if info is not None:
                table = values.setdefault(section, {})
                if isinstance(table, dict):
                    table[key] = _from_text(environ[variable], like=info.default)
                    places[section, key] = variable
            # Others are not ours to judge: Kubernetes sets QKT_NODE_PORT for a service named qkt-node.
            elif close := difflib.get_close_matches(key, model.model_fields, 1, _LIKENESS):
                yield f"{variable}: unknown variable, did you mean {environment_name(section, close[0])}?"


def _from_text(text: str, *, like: object) -> object:
    """Read a variable as the type of the option's default; what cannot be read is left for validation."""
    if isinstance(like, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(like, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
    try:
        return type(like)(text) if isinstance(like, int | float) else text
    except ValueError:
        return text


def _own_mistakes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list has too few items where that is so because some were mistaken."""
    within = {error["loc"][:-1] for error in errors}
    return [error for error in errors if error["type"] != "too_short" or error["loc"] not in within]


def _describe(error: ErrorDetails, places: Mapping[_Place, str], file_name: str) -> str:
    """Return one line for one of pydantic's errors."""
    location = tuple(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if own := _MESSAGES.get(error["type"]):
        message = own.format_map(error.get("ctx", {}))
    if not location:
        return f"{file_name} {message}"
    where = places.get(location[:2]) or places.get(location[:1]) or file_name
    if location[:2] not in places:
        where = f"{where} {' '.join(location[1:2])}".rstrip()
    item = f"[{location[2]}]" if len(location) > 2 else ""
    if error["type"] == "extra_forbidden":
        return f"{where}: {_unknown(location)}"
    return f"{where}{item}: {message[:1].lower()}{message[1:]} (got {_shortened(error['input'])})"


def _unknown(location: _Place) -> str:
    models = sections()
    known = models[location[0]].model_fields if len(location) > 1 else models
    what = "option" if len(location) > 1 else "section"
    close = difflib.get_close_matches(location[-1], known, 1, 0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"unknown {what}, {hint}"


def _shortened(value: object) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
