"""Inputs of one shape brought to another: a teacher's data for a model that takes another size or colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.errors import PeerRefusedError

if TYPE_CHECKING:
    import numpy.typing as npt

    from qkt_p2p.datasets.labelled import Inputs
    from qkt_p2p.types import Shape

_LUMINANCE: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in grey: ITU-R BT.601."""

_MOST_SCALING: Final = 4
"""Height and width may grow or shrink by this factor; beyond it little is left of an image."""


def adapt_inputs(inputs: Inputs, shape: Shape) -> Inputs:
    """Return inputs [n, C, H, W] in [0, 1] as [n, *shape]: scaled linearly, grey to colour or back.

    Raises PeerRefusedError, naming both shapes, for other numbers of channels and for sizes far apart.
    """
    if inputs.shape[1:] == shape:
        return inputs
    sides = tuple(zip(inputs.shape[2:], shape[1:], strict=True))
    scalable = all(max(pair) <= _MOST_SCALING * min(pair) for pair in sides)
    if not scalable or (inputs.shape[1] != shape[0] and {inputs.shape[1], shape[0]} != {1, 3}):
        raise PeerRefusedError(
            f"the data has inputs of {inputs.shape[1:]}, which cannot be made inputs of {shape}: only grey "
            f"and colour convert, and sides scale by at most {_MOST_SCALING}"
        )
    rows, columns = (_scaling(*pair) for pair in sides)
    scaled = rows @ _recoloured(inputs, shape[0]) @ columns.T
    adapted: Inputs = np.ascontiguousarray(scaled.clip(0, 1))
    return adapted


def _recoloured(inputs: Inputs, channels: int) -> Inputs:
    if inputs.shape[1] == channels:
        return inputs
    if channels == 3:
        return inputs.repeat(3, axis=1)
    grey: Inputs = np.einsum("c,nchw->nhw", _LUMINANCE, inputs)[:, None]
    return grey


def _scaling(old: int, new: int) -> npt.NDArray[np.float32]:
    """Return weights [new, old] that interpolate linearly, and average over all that a new pixel covers."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    distances = np.abs(np.arange(old) - centres[:, None]) / max(1, scale)
    weights = (1 - distances).clip(0)
    scaled: npt.NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return scaled
