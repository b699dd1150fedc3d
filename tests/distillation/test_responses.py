"""Responses, their splits, and the pool that a student trains on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qkt_p2p.datasets import LabelledData
from qkt_p2p.distillation import LearningSettings, Response, oracle_responses, split_responses
from qkt_p2p.distillation.pool import (
    ENOUGH_SAMPLES,
    absent_rows,
    check_guarded,
    own_pool,
    response_pool,
)
from qkt_p2p.errors import ConfigError, UpdateRefusedError
from qkt_p2p.limits import MIN_SAMPLES_PER_CLASS
from qkt_p2p.models import build_classifier
from qkt_p2p.types import ClassName
from qkt_p2p.wire.tensors import SyntheticBatch

A, B, C, D = (ClassName(name) for name in "abcd")
INPUT, TARGET = np.zeros((1, 1, 2, 2), np.float32), np.ones((1, 1), np.float32)
STUDENT = build_classifier("mlp", input_shape=(1, 2, 2), classes=(C, B, A), trained=(A, C), seed=0)


def response_of(labels: list[int], source: str = "x", **weights: float) -> Response:
    targets = np.full((len(labels), 2), 0.2, np.float32)
    targets[np.arange(len(labels)), labels] = 0.8
    inputs = np.linspace(0, 1, len(labels) * 4, dtype=np.float32).reshape(-1, 1, 2, 2)
    named = {ClassName(name): weight for name, weight in weights.items()}
    return Response.from_batch(source, SyntheticBatch(inputs, targets, (A, B)), named)


def data_of(labels: list[int], classes: tuple[ClassName, ...] = (A, B, C)) -> LabelledData:
    return LabelledData(np.zeros((len(labels), 1, 2, 2), np.float32), np.array(labels, np.int64), classes)


def test_a_split_is_stratified_and_complete() -> None:
    """Each class of each response gives its share, and never its last sample."""
    (rest, tiny), (held, none) = split_responses(
        [response_of([0] * 10 + [1] * 20), response_of([0])], 0.3, seed=1
    )
    assert np.bincount(held.labels).tolist() == [3, 6]
    assert np.bincount(rest.labels).tolist() == [7, 14]
    assert (len(tiny), len(none)) == (1, 0)


def test_a_response_is_cut_class_by_class() -> None:
    """The first samples of each class stay, in order; where there are no more, nothing is copied."""
    inputs = np.arange(7, dtype=np.float32)[:, None]
    targets = np.eye(3, dtype=np.float32)[[2, 0, 0, 2, 0, 0, 1]]
    response = Response("t", (ClassName("a"), ClassName("b"), ClassName("c")), inputs, targets, {})
    assert response.at_most(2).inputs[:, 0].tolist() == [0, 1, 2, 3, 6]
    assert response.at_most(4) is response


def test_the_pool_places_targets_in_the_students_rows() -> None:
    """Columns of classes that the student does not learn are dropped, with their samples."""
    pool = response_pool(STUDENT, [response_of([0, 1, 0])])
    assert pool.inputs.shape == (2, 1, 2, 2)
    assert pool.targets.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert pool.labels.tolist() == [2, 2]


def test_every_class_is_drawn_equally_often_and_sources_by_weight() -> None:
    """A class of few samples is not drowned; a teacher of weight 3 is heard three times as often."""
    student = STUDENT.grown([B], seed=0)
    pool = response_pool(student, [response_of([0] * 30 + [1] * 2, a=3.0), response_of([0] * 30, a=1.0)])
    drawn = pool.draw(20_000, torch.Generator().manual_seed(0))
    rows = pool.labels[drawn].bincount(minlength=3) / 20_000
    assert rows.tolist() == pytest.approx([0, 0.5, 0.5], abs=0.02)
    from_first = ((drawn < 30).sum() / (pool.labels[drawn] == 2).sum()).item()
    assert from_first == pytest.approx(0.75, abs=0.02)


def test_responses_without_a_wanted_class_are_refused() -> None:
    """There is nothing to learn from other classes, nor from nothing."""
    for responses in ([response_of([1, 1])], []):
        with pytest.raises(ConfigError, match="no class"):
            response_pool(STUDENT, responses)


def test_a_weight_of_zero_silences_a_teacher() -> None:
    """A class taught by silenced teachers alone is not drawn, and nothing becomes NaN."""
    student = STUDENT.grown([B], seed=0)
    pool = response_pool(student, [response_of([0, 0, 1], a=0.0)])
    assert set(pool.labels[pool.draw(50, torch.Generator().manual_seed(0))].tolist()) == {1}
    with pytest.raises(ConfigError, match="no class"):
        response_pool(STUDENT, [response_of([0, 0], a=0.0)])


def test_own_data_names_the_rows_that_it_lacks() -> None:
    """A class learned from others is absent; a class in the data but not in the model is left out."""
    pool = own_pool(STUDENT, data_of([0, 1, 0]))
    assert pool.labels.tolist() == [2, 2]
    assert absent_rows(STUDENT, pool) == [0]
    with pytest.raises(ConfigError, match="own data"):
        own_pool(STUDENT, data_of([1]))


@pytest.mark.parametrize(("scarce", "absent"), [(ENOUGH_SAMPLES - 1, [0]), (ENOUGH_SAMPLES, [])])
def test_a_class_of_few_own_samples_counts_as_absent(scarce: int, absent: list[int]) -> None:
    """Below 32 samples the local loss masks the class, so that peers' samples of it decide."""
    assert absent_rows(STUDENT, own_pool(STUDENT, data_of([0] * 40 + [2] * scarce))) == absent


def test_a_node_that_has_little_of_everything_learns_from_that_little() -> None:
    """Where no class has enough samples, those that it has count as present."""
    assert absent_rows(STUDENT, own_pool(STUDENT, data_of([0] * 3 + [2] * 5))) == []


def test_a_class_of_few_own_samples_is_drawn_less_often() -> None:
    """In proportion to what it lacks of 32: eight samples are drawn a quarter as often as forty."""
    pool = own_pool(STUDENT, data_of([0] * 40 + [2] * 8))
    drawn = pool.labels[pool.draw(20_000, torch.Generator().manual_seed(0))].bincount(minlength=3) / 20_000
    assert drawn.tolist() == pytest.approx([0.2, 0, 0.8], abs=0.02)


def test_a_class_without_a_sample_anywhere_ends_the_update() -> None:
    """What was learned from a peer that is gone would be forgotten."""
    own = own_pool(STUDENT, data_of([0]))
    check_guarded(STUDENT, response_pool(STUDENT, [Response("x", (C,), INPUT, TARGET, {})]), own)
    with pytest.raises(UpdateRefusedError, match="nobody teaches c"):
        check_guarded(STUDENT, response_pool(STUDENT, [response_of([0])]), own)


def test_the_oracle_sees_the_real_data_of_the_classes_asked_for() -> None:
    """One response per source that holds any, with hard targets."""
    responses = oracle_responses({"x": data_of([0, 1, 2]), "y": data_of([1])}, [A, C])
    assert [(response.source, response.classes) for response in responses] == [("x", (A, C))]
    assert responses[0].targets.tolist() == [[1, 0], [0, 1]]


def test_of_the_fewest_samples_that_may_be_asked_for_one_is_held_out() -> None:
    """Without any the gate would measure nothing, and refuse every query."""
    few = MIN_SAMPLES_PER_CLASS
    shown, held = split_responses([response_of([0] * few)], LearningSettings().holdout_fraction, seed=0)
    assert (len(shown[0]), len(held[0])) == (few - 1, 1)
