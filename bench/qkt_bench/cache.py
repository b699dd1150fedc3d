"""What is computed once for a federation and kept on disk, so that other methods and later runs find it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qkt_p2p.files import replace_file
from qkt_p2p.models import classifier_from_arrays, classifier_to_arrays
from qkt_p2p.store.checkpoints import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np

    from qkt_p2p.models import Classifier

Arrays = dict[str, "np.ndarray"]


class Cache:
    """A folder of results by name; each is made where it is missing, and appears whole."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def classifier(self, name: str, make: Callable[[], Classifier]) -> Classifier:
        """Return a trained classifier."""
        arrays, metadata = self.arrays(name, lambda: classifier_to_arrays(make()))
        return classifier_from_arrays(arrays, metadata)

    def arrays(
        self, name: str, make: Callable[[], tuple[Arrays, Mapping[str, str]]]
    ) -> tuple[Arrays, dict[str, str]]:
        """Return named arrays with their metadata."""
        path = self._folder / f"{name}.safetensors"
        if not path.exists():
            save_checkpoint(path, *make())
        return load_checkpoint(path)

    def data(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a JSON object."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            replace_file(path, json.dumps(make()).encode())
        found: dict[str, Any] = json.loads(path.read_text())
        return found
