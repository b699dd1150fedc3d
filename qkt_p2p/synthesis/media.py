"""The media that are built in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_p2p.synthesis.features import Features
from qkt_p2p.synthesis.inversion import Inversion
from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.synthesis.noise import Noise
from qkt_p2p.synthesis.weights import Weights

if TYPE_CHECKING:
    from qkt_p2p.synthesis.medium import Medium

_MEDIA: Final[dict[str, Medium]] = {
    medium.name: medium for medium in (Features(), Moments(), Inversion(), Weights(), Noise())
}


def medium_of(name: str) -> Medium | None:
    """Return the medium of that name, None where there is none."""
    return _MEDIA.get(name)
