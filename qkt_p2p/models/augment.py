"""Augmentation of images while a model is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor

    from qkt_p2p.types import Augmentation

_SHARE: Final = 1 / 16


def shift_reach(height: int, width: int) -> int:
    """Return by how many pixels "shifts" moves images of that size at most; 0 for small ones."""
    return round(min(height, width) * _SHARE)


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Return images [n, C, H, W] as training sees them this time.

    "shifts" moves each by its own whole number of pixels, at most a sixteenth of the shorter side each way;
    the border's pixels fill what is left free. Images too small for one pixel stay as they are. Source: the
    random crops of padded images that image classifiers are usually trained on.
    """
    height, width = images.shape[-2:]
    reach = shift_reach(height, width)
    if augmentation == "none" or not reach:
        return images
    corners = torch.randint(0, 2 * reach + 1, (2, len(images), 1), generator=generator).to(images.device)
    rows = corners[0] + torch.arange(height, device=images.device)
    columns = corners[1] + torch.arange(width, device=images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    padded = pad(images, (reach,) * 4, mode="replicate")
    return padded[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
