"""Images as training sees them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from qkt_p2p.models import augmented


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), colours=st.integers(1, 3), seed=st.integers(0, 99)
)
def test_every_image_is_moved_as_a_whole_and_by_a_sixteenth_at_most(
    height: int, width: int, colours: int, seed: int
) -> None:
    """What comes out is a window of the image with its border continued; small images stay as they are."""
    images = torch.rand(4, colours, height, width, generator=torch.Generator().manual_seed(seed))
    moved = augmented(images, "shifts", torch.Generator().manual_seed(seed))
    assert moved.shape == images.shape
    reach = round(min(height, width) / 16)
    for image, found in zip(pad(images, (reach,) * 4, mode="replicate"), moved, strict=True):
        windows = [
            image[:, top : top + height, left : left + width]
            for top in range(2 * reach + 1)
            for left in range(2 * reach + 1)
        ]
        assert any(torch.equal(window, found) for window in windows)


def test_images_are_moved_each_by_its_own_and_only_where_asked() -> None:
    """Alike images come out apart; without augmentation they are not touched, and nothing is drawn."""
    images = torch.rand(1, 1, 32, 32).expand(16, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert augmented(images, "none", generator) is images
    assert torch.equal(generator.get_state(), state)
    assert len({tuple(image.flatten().tolist()) for image in augmented(images, "shifts", generator)}) > 8
