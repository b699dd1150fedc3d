"""The node's model as its files tell it, without numpy or torch: what the daemon needs to start."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.errors import ConfigError
from qkt_p2p.store.checkpoints import current_file, read_metadata
from qkt_p2p.types import ClassName, StudentModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_p2p.types import QueryId

CANDIDATE_PATTERN: Final = "candidate-*.safetensors"


def version_file(version: int) -> str:
    """Return the name under models/ of a version's file."""
    return f"v{version:04d}.safetensors"


def candidate_file(query_id: QueryId) -> str:
    """Return the name under models/ of a query's model until it is accepted."""
    return f"candidate-{query_id}.safetensors"


def node_metadata(model: StudentModel) -> dict[str, str]:
    """Return the metadata that a node adds to a model file."""
    fields = {"version": model.version, "local": model.local, "known": model.known}
    return {key: json.dumps(value) for key, value in fields.items()}


def stored_model(home: Home, config: NodeConfig) -> StudentModel | None:
    """Return what the home's current model is, or None where it holds none yet.

    Raises ConfigError where the file is damaged or is not of the architecture in node.toml.
    """
    path = current_file(home.models)
    if path is None:
        return None
    metadata = read_metadata(path)
    architecture = _field(metadata, "architecture", path)
    if architecture != config.model.architecture:
        raise ConfigError(
            f"{path} holds a {architecture!r} model, node.toml asks for {config.model.architecture!r}",
            fix=f"set [model] architecture = {json.dumps(architecture)} in {home.config_file}",
        )
    channels, height, width = _field(metadata, "input_shape", path)
    return StudentModel(
        version=int(_field(metadata, "version", path)),
        input_shape=(channels, height, width),
        local=tuple(ClassName(name) for name in _field(metadata, "local", path)),
        known=tuple(ClassName(name) for name in _field(metadata, "known", path)),
    )


def _field(metadata: Mapping[str, str], key: str, path: Path) -> Any:
    try:
        return json.loads(metadata[key])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} was not written by this software: its metadata lack {key!r}",
            fix=f"move {path.parent} away; the node then trains a new model",
        ) from error
