"""Released statistics per model version and class: made once, kept as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from safetensors.numpy import load, save

from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.release import release

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.synthesis.medium import Medium
    from qkt_p2p.synthesis.release import Statistics
    from qkt_p2p.types import ClassName

StatisticsCache = MutableMapping[str, bytes]
"""Where released statistics are kept; the keys are safe file names."""


class Bank:
    """Draws synthetic inputs of the classes of `data`; `cache` keeps the statistics behind them."""

    def __init__(
        self, medium: Medium, data: LabelledData, *, model_version: int, cache: StatisticsCache
    ) -> None:
        self._medium = medium
        self._data = data
        self._model_version = model_version
        self._cache = cache

    def sample(self, class_name: ClassName, count: int, *, seed: int) -> npt.NDArray[np.float32]:
        """Return synthetic inputs [count, C, H, W] of a class; raises PeerRefusedError as `release` does."""
        purpose_seed = derived_seed(seed, "sample", self._medium.name, class_name)
        shape = self._data.input_shape
        return self._medium.sample(self._statistics(class_name), count, shape=shape, seed=purpose_seed)

    def _statistics(self, class_name: ClassName) -> Statistics:
        inputs = self._data.of_class(class_name)
        key = self._key(class_name, inputs)
        if key not in self._cache:
            self._cache[key] = self._fit(class_name, inputs)
        return load(self._cache[key])

    def _fit(self, class_name: ClassName, inputs: npt.NDArray[np.float32]) -> bytes:
        seed = derived_seed(self._model_version, "fit", self._medium.name, class_name)
        statistics = self._medium.fit(inputs, seed=seed)
        return bytes(save(dict(release(statistics, class_name=class_name, samples=len(inputs)))))

    def _key(self, class_name: ClassName, inputs: npt.NDArray[np.float32]) -> str:
        """Return a key that changes with the medium, the model version, the class and its data."""
        digest = hashlib.sha256(f"{class_name}\n{inputs.shape}\n".encode() + inputs.tobytes()).hexdigest()
        return f"{self._medium.name}-{self._model_version}-{digest[:32]}"
