"""Federated averaging (McMahan et al. 2017) and its proximal variant (Li et al. 2020) in one process."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkt_bench.training import samples_of, train_epochs
from qkt_p2p.models import build_classifier
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from qkt_bench.federation import Federation
    from qkt_bench.training import Penalty, Recipe
    from qkt_p2p.models import Classifier

State = dict[str, Tensor]
Average = Callable[[Sequence[Mapping[str, Tensor]], Sequence[float]], State]


@dataclass(frozen=True, slots=True)
class Averaging:
    """How a model is averaged: `rounds` of `local` training at every node; `mu` 0 is FedAvg.

    The local learning rate falls to 0 along a cosine over the rounds where it is `annealed`.
    """

    rounds: int
    local: Recipe
    mu: float = 0.0
    annealed: bool = False

    def recipe(self, done: int) -> Recipe:
        """Return the local training of the round after so many."""
        if not self.annealed:
            return self.local
        share = (1 + math.cos(math.pi * done / self.rounds)) / 2
        return replace(self.local, learning_rate=self.local.learning_rate * share)


def average_states(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> State:
    """Return the weighted mean of parameters and batch norm statistics; counters are the first's."""
    total = sum(weights)
    first = states[0]
    return {
        name: sum(
            (state[name] * (weight / total) for state, weight in zip(states, weights, strict=True)),
            start=torch.zeros_like(tensor),
        )
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in first.items()
    }


def state_bytes(classifier: Classifier) -> int:
    """Return the bytes of parameters and batch norm statistics as float32: what travels one way."""
    return sum(4 * int(t.numel()) for t in classifier.state_dict().values() if t.is_floating_point())


def initial_model(federation: Federation) -> Classifier:
    """Return the untrained model that every node starts from, its head over the whole label space."""
    return build_classifier(
        federation.plan.model,
        input_shape=federation.test.input_shape,
        classes=federation.classes,
        trained=federation.classes,
        seed=derived_seed(federation.seed, "averaging"),
    )


def average_rounds(
    federation: Federation,
    settings: Averaging,
    *,
    after_round: Callable[[int, Classifier, float], None],
    average: Average = average_states,
) -> Classifier:
    """Return the global model after all rounds, every node taking part in each.

    `average` merges what the nodes made of the model, by their numbers of samples.
    `after_round` is called with the round from 1 on, the global model, and the seconds of training so far.
    """
    model = initial_model(federation)
    samples = [samples_of(node.train, model) for node in federation.nodes]
    weights = [float(len(each)) for each in samples]
    seconds = 0.0
    for number in range(1, settings.rounds + 1):
        started = time.perf_counter()
        states = []
        for node, own in enumerate(samples):
            local = copy.deepcopy(model)
            seed = derived_seed(federation.seed, "averaging", str(number), str(node))
            train_epochs(
                local,
                own,
                settings.recipe(number - 1),
                generator=torch.Generator().manual_seed(seed),
                penalty=_proximal(local, model, settings.mu) if settings.mu else None,
            )
            states.append(local.state_dict())
        model.load_state_dict(average(states, weights))
        seconds += time.perf_counter() - started
        after_round(number, model.eval(), seconds)
    return model


def _proximal(local: Classifier, model: Classifier, mu: float) -> Penalty:
    """Return mu / 2 times the squared distance to the global parameters."""
    anchors = [parameter.detach().clone() for parameter in model.parameters()]

    def penalty(batch: Tensor, logits: Tensor) -> Tensor:
        del batch, logits
        moved = zip(local.parameters(), anchors, strict=True)
        return (mu / 2) * torch.stack([(now - then).square().sum() for now, then in moved]).sum()

    return penalty
