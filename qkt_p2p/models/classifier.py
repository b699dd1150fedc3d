"""A classifier h(g(x)): backbone g, linear head h with one row per class name."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qkt_p2p.errors import ConfigError
from qkt_p2p.models.architectures import ARCHITECTURES
from qkt_p2p.models.device import seeded
from qkt_p2p.models.own import load_own, own_cut
from qkt_p2p.references import OwnModule

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qkt_p2p.types import ClassName, Shape


class Classifier(nn.Module):
    """A backbone with a head over a label space.

    `classes` are the head's rows in order; `trained` are those of them that the classifier has learned.
    Rows of other classes exist where the label space of the data is wider than the data. The backbone's
    children are its blocks; a cut is a number of leading blocks, `cut` the one of the architecture.
    `built_for` is how many classes the classifier had when it was built, before it grew.
    """

    def __init__(
        self,
        backbone: nn.Sequential,
        head: nn.Linear,
        *,
        architecture: str | OwnModule,
        input_shape: Shape,
        classes: Sequence[ClassName],
        trained: Collection[ClassName],
        built_for: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.architecture = architecture
        self.cut = (
            own_cut(backbone) if isinstance(architecture, OwnModule) else ARCHITECTURES[architecture].cut
        )
        self.input_shape = input_shape
        self.classes = tuple(classes)
        self.trained = tuple(name for name in self.classes if name in trained)
        self.built_for = built_for

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [n, len(classes)] of inputs [n, C, H, W] in [0, 1]."""
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and inputs have to be."""
        return self.head.weight.device

    def placed(self, inputs: Tensor) -> Tensor:
        """Return inputs or features where the parameters are, as convolutions take them fastest.

        That is channels last. A module of one's own gets them as they are, because its layers may view them.
        """
        inputs = inputs.to(self.device)
        if inputs.dim() != 4 or isinstance(self.architecture, OwnModule):
            return inputs
        return inputs.contiguous(memory_format=torch.channels_last)

    def stem(self, cut: int) -> nn.Module:
        """Return the blocks before the cut; they are shared with the classifier, their mode included."""
        return self.backbone[:cut]

    def after(self, cut: int) -> nn.Module:
        """Return the rest of the backbone with the head: features -> logits; shared in the same way."""
        return nn.Sequential(*list(self.backbone)[cut:], self.head)

    def feature_shape(self, cut: int) -> tuple[int, ...]:
        """Return the shape of one sample's features at the cut; at 0 it is that of an input."""
        stem = copy.deepcopy(self.stem(cut)).eval()
        with torch.inference_mode():
            return tuple(stem(self.head.weight.new_zeros(1, *self.input_shape)).shape[1:])

    def rows(self, classes: Collection[ClassName]) -> list[int]:
        """Return the head's rows of `classes`, in the head's order; unknown names are left out."""
        return [row for row, name in enumerate(self.classes) if name in classes]

    def grown(self, classes: Collection[ClassName], *, seed: int) -> Classifier:
        """Return a copy that is ready to learn `classes`, and counts them as trained.

        Rows of classes that it has not learned are drawn afresh from `seed`, or appended where absent.
        """
        fresh = [name for name in classes if name not in self.trained]
        names = self.classes + tuple(name for name in fresh if name not in self.classes)
        with seeded(seed):
            # Drawn on the CPU, alike everywhere, and moved at once: rows are not copied between devices.
            head = nn.Linear(self.head.in_features, len(names)).to(self.device)
        kept = [row for row, name in enumerate(self.classes) if name not in fresh]
        with torch.no_grad():
            head.weight[kept] = self.head.weight[kept]
            head.bias[kept] = self.head.bias[kept]
        return Classifier(
            copy.deepcopy(self.backbone),
            head,
            architecture=self.architecture,
            input_shape=self.input_shape,
            classes=names,
            trained={*self.trained, *classes},
            built_for=self.built_for,
        )


def build_classifier(
    architecture: str | OwnModule,
    *,
    input_shape: Shape,
    classes: Sequence[ClassName],
    trained: Collection[ClassName],
    seed: int,
    built_for: int | None = None,
) -> Classifier:
    """Return an untrained classifier of a built-in architecture, or of the owner's own module.

    It is as one that was `built_for` so many classes, and has grown since, where that is given: of an own
    module other layers than the head may depend on the number. Raises ConfigError for another name, and for
    an own module that does not fit.
    """
    if not isinstance(architecture, OwnModule) and architecture not in ARCHITECTURES:
        raise ConfigError(
            f"there is no built-in architecture {architecture!r}",
            fix=f"set [model] architecture to one of {', '.join(ARCHITECTURES)}",
        )
    with seeded(seed):
        if isinstance(architecture, OwnModule):
            backbone, head = load_own(
                architecture, input_shape=input_shape, classes=built_for or len(classes)
            )
            if built_for is not None:
                head = nn.Linear(head.in_features, len(classes))
        else:
            backbone, width = ARCHITECTURES[architecture].build(input_shape)
            head = nn.Linear(width, len(classes))
    return Classifier(
        backbone,
        head,
        architecture=architecture,
        input_shape=input_shape,
        classes=classes,
        trained=trained,
        built_for=built_for or len(classes),
    )
