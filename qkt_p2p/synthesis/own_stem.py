"""The asker's own stem, looked at as its teachers will look at it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from qkt_p2p.errors import ConfigError, PeerError
from qkt_p2p.models.stem import export_stem
from qkt_p2p.synthesis.moments import fitting_axes
from qkt_p2p.synthesis.stem import Stem

if TYPE_CHECKING:
    from qkt_p2p.models import Classifier


def own_stem(classifier: Classifier) -> bytes:
    """Return the stem of an asker's classifier, at its usual cut, as a graph that teachers take.

    Raises ConfigError where the stem cannot be written, or where every teacher would refuse it: it uses an
    operator that is not listed, costs too much, or makes features too large to be described.
    """
    stem = export_stem(classifier, classifier.cut)
    try:
        parsed = Stem.parse(stem, input_shape=classifier.input_shape)
        fitting_axes(prod(parsed.feature_shape))
    except PeerError as error:
        raise ConfigError(
            f"no teacher would take the first {classifier.cut} blocks of the model: {error.message}",
            fix="ask with --medium moments, or use other layers in these blocks",
        ) from error
    return stem
