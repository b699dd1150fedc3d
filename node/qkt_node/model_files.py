"""The node's model as its files tell it, without numpy or torch: what the daemon needs to start."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.files import parse_json
from qkt_p2p.store.checkpoints import current_file, read_metadata
from qkt_p2p.types import StudentModel, parse_class_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from qkt_node.home import Home
    from qkt_node.settings import DataSection, ModelSection, NodeConfig
    from qkt_p2p.store.records import ModelRecord
    from qkt_p2p.types import QueryId

Phase = Literal["phase1", "phase2"]

LEFTOVERS: Final = ("candidate-*", ".*.safetensors.*", ".current.*")
"""Files under models/ that a query or a save had in hand when it was cut off."""


def version_file(version: int) -> str:
    """Return the name under models/ of a version's file."""
    return f"v{version:04d}.safetensors"


def candidate_file(query_id: QueryId, phase: Phase) -> str:
    """Return the name under models/ of what a phase of a query made, apart from other phases'."""
    return f"candidate-{query_id}-{phase}.safetensors"


def node_metadata(model: StudentModel) -> dict[str, str]:
    """Return the metadata that a node adds to a model file."""
    fields = {
        "version": model.version,
        "local": model.local,
        "known": model.known,
        "scarce": model.scarce,
    }
    return {key: json.dumps(value) for key, value in fields.items()}


def data_metadata(data: DataSection) -> dict[str, str]:
    """Return the metadata that tells which data a version was saved with, as node.toml chose them."""
    return {"data": json.dumps([data.source, *data.classes])}


def is_saved_with(home: Home, data: DataSection) -> bool:
    """Tell whether the current version was saved with these data; files of earlier versions do not tell."""
    path = current_file(home.models)
    return path is not None and read_metadata(path).get("data") == data_metadata(data)["data"]


def stored_model(home: Home, config: NodeConfig) -> StudentModel | None:
    """Return what the home's current model is, or None where it holds none yet.

    Raises ConfigError where the file is damaged or is not of the architecture in node.toml.
    """
    path = current_file(home.models)
    return None if path is None else described_model(path, home, config)


def described_model(path: Path, home: Home, config: NodeConfig) -> StudentModel:
    """Return what the model in a file of the home is; raises as `stored_model` does."""
    metadata = read_metadata(path)
    _check_architecture(metadata, path, home, config.model)
    try:
        channels, height, width = map(int, _field(metadata, "input_shape", path))
        return StudentModel(
            version=int(_field(metadata, "version", path)),
            input_shape=(channels, height, width),
            local=tuple(map(parse_class_name, _field(metadata, "local", path))),
            known=tuple(map(parse_class_name, _field(metadata, "known", path))),
            # Files of earlier versions do not tell.
            scarce=tuple(map(parse_class_name, _field({"scarce": "[]", **metadata}, "scarce", path))),
            trained=tuple(map(parse_class_name, _field(metadata, "trained", path))),
        )
    except (TypeError, ValueError, AttributeError, UsageError) as error:
        raise _foreign(path, f"its metadata are not as expected ({error})") from error


def require_intact(home: Home, records: Iterable[ModelRecord]) -> None:
    """Raise ConfigError where the current model file is not what was recorded when it was saved."""
    path = current_file(home.models)
    if path is None:
        return
    for record in records:
        if record.file == path.name:
            require_recorded(home, record)


def require_recorded(home: Home, record: ModelRecord) -> None:
    """Raise ConfigError where a version's file is not what was recorded when it was saved, or is gone."""
    path = home.models / record.file
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"the model file {path} cannot be read: {error.strerror}", fix="restore it from a copy"
        ) from error
    if found != record.sha256:
        raise ConfigError(
            f"the model file {path} is damaged: its SHA-256 is {found}, recorded was {record.sha256}",
            fix=f"restore it from a copy, or move {home.models} away; the node then trains a new model",
        )


def remove_candidates(models: Path, query_id: QueryId) -> None:
    """Remove what a query that is over left under models/."""
    _remove(models.glob(f"*candidate-{query_id}-*"))


def remove_leftovers(models: Path, *, under_way: Collection[QueryId]) -> None:
    """Remove what was left under models/, but for what queries need that are going to be resumed."""
    needed = {candidate_file(query_id, phase) for query_id in under_way for phase in get_args(Phase)}
    for pattern in LEFTOVERS:
        _remove(path for path in models.glob(pattern) if path.name not in needed)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _check_architecture(metadata: Mapping[str, str], path: Path, home: Home, wanted: ModelSection) -> None:
    found = [_field(metadata, "architecture", path)]
    found += [_field(metadata, "head", path)] if "head" in metadata else []
    asked_for = [wanted.factory, wanted.head] if wanted.factory else [wanted.architecture]
    if found != asked_for:
        keys = ("factory", "head") if len(found) > 1 else ("architecture",)
        options = ", ".join(f"{key} = {json.dumps(value)}" for key, value in zip(keys, found, strict=True))
        raise ConfigError(
            f"{path} holds a {' with head '.join(map(repr, found))} model, "
            f"node.toml asks for {' with head '.join(map(repr, asked_for))}",
            fix=f"set [model] {options} in {home.config_file}",
        )


def _field(metadata: Mapping[str, str], key: str, path: Path) -> Any:
    try:
        return parse_json(metadata[key])
    except (KeyError, ValueError) as error:
        raise _foreign(path, f"its metadata lack {key!r}") from error


def _foreign(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} was not written by this software: {reason}",
        fix=f"move {path.parent} away; the node then trains a new model",
    )
