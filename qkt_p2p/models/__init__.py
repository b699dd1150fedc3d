"""Classifiers: a backbone, and a head that grows by a row per class.

architectures   the built-in architectures
own             the owner's own module, taken apart into backbone and head
classifier      Classifier: backbone and head, and its cut into a stem and the rest
stem            the stem as an ONNX graph, for teachers to run
tensors         a classifier <-> named arrays, for safetensors
training        a node's first training on its own data
augment         images as training sees them: shifted
device          where learning runs, and what its layers draw
numbers         which numbers a model may hold
evaluation      predictions and accuracies over chosen classes
"""

from qkt_p2p.models.architectures import ARCHITECTURES
from qkt_p2p.models.augment import augmented, shift_reach
from qkt_p2p.models.classifier import Classifier, build_classifier
from qkt_p2p.models.device import choose_device
from qkt_p2p.models.evaluation import class_accuracies, features_of, logits_of
from qkt_p2p.models.numbers import unusable_numbers
from qkt_p2p.models.stem import export_stem
from qkt_p2p.models.tensors import (
    classifier_from_arrays,
    classifier_from_bytes,
    classifier_to_arrays,
    classifier_to_bytes,
    require_rebuilt,
)
from qkt_p2p.models.training import TrainingSettings, require_same_inputs, train_classifier

__all__ = [
    "ARCHITECTURES",
    "Classifier",
    "TrainingSettings",
    "augmented",
    "build_classifier",
    "choose_device",
    "class_accuracies",
    "classifier_from_arrays",
    "classifier_from_bytes",
    "classifier_to_arrays",
    "classifier_to_bytes",
    "export_stem",
    "features_of",
    "logits_of",
    "require_rebuilt",
    "require_same_inputs",
    "shift_reach",
    "train_classifier",
    "unusable_numbers",
]
