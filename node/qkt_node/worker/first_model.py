"""A node's first model, trained on its own data, and whether a model is one for other data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import (
    TrainingSettings,
    build_classifier,
    choose_device,
    require_rebuilt,
    require_same_inputs,
    train_classifier,
)
from qkt_p2p.seeds import derived_seed
from qkt_p2p.types import ClassName

if TYPE_CHECKING:
    from qkt_node.settings import NodeConfig
    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ReportDone


def first_model(config: NodeConfig, data: LabelledData, report: ReportDone) -> Classifier:
    """Return a model of the architecture in node.toml, trained on this node's own `data`.

    Raises ConfigError where that is a module of one's own which a file would not bring back.
    """
    label_space = dict.fromkeys((*map(ClassName, config.model.label_space), *data.present))
    classifier = build_classifier(
        config.model.own or config.model.architecture,
        input_shape=data.input_shape,
        classes=tuple(label_space),
        trained=data.present,
        seed=derived_seed(config.node.seed, "build"),
    )
    require_rebuilt(classifier)
    train_classifier(
        classifier.to(choose_device(config.node.device)),
        data,
        TrainingSettings(augment=config.model.augment),
        seed=derived_seed(config.node.seed, "train"),
        progress=report,
    )
    return classifier


def require_fit(model: Classifier, data: LabelledData) -> None:
    """Raise ConfigError where the owner chose other data, for which a model was not made."""
    require_same_inputs(model, data)
    if not {*data.present} & {*model.trained}:
        raise ConfigError(
            f"the data hold {', '.join(data.present)[:200]}, none of which the model has learned",
            fix="set [data] source or classes to data of the model's classes, or start a new home",
        )
