"""The losses, on logits small enough to check by hand."""

from __future__ import annotations

import pytest
import torch

from qkt_p2p.distillation.losses import distillation_loss, lowered, masked_local_loss

LOGITS = torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, -1.0]], requires_grad=True)
LABELS = torch.tensor([0, 1])


def gradient(loss: torch.Tensor) -> torch.Tensor:
    (result,) = torch.autograd.grad(loss, LOGITS)
    return result


def test_masked_local_loss_leaves_absent_classes_alone() -> None:
    """No gradient reaches an absent class, and the loss is that over the other rows."""
    loss = masked_local_loss(LOGITS, LABELS, [2], 0.0)
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(LOGITS[:, :2], LABELS).item())
    assert gradient(loss)[:, 2].tolist() == [0, 0]


def test_calibration_leads_from_the_masked_to_the_plain_loss() -> None:
    """At 1, and without absent classes, the loss is plain; between, it is between."""
    plain = torch.nn.functional.cross_entropy(LOGITS, LABELS).item()
    losses = [masked_local_loss(LOGITS, LABELS, [2], knob).item() for knob in (0.0, 0.1, 0.5, 1.0)]
    assert losses == sorted(losses)
    assert losses[-1] == pytest.approx(plain)
    assert masked_local_loss(LOGITS, LABELS, [], 0.0).item() == pytest.approx(plain)


def test_an_own_sample_of_an_absent_class_counts() -> None:
    """The mask never hides the label itself."""
    loss = masked_local_loss(LOGITS, torch.tensor([2, 1]), [2], 0.0)
    assert torch.isfinite(loss)
    assert gradient(loss)[0, 2] < 0


def test_distillation_loss_is_least_at_the_targets() -> None:
    """Its gradient is the difference of the distributions, over the number of samples."""
    targets = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    expected = (LOGITS.softmax(1) - targets) / 2
    assert torch.allclose(gradient(distillation_loss(LOGITS, targets)), expected)
    assert distillation_loss(targets.log().clamp(min=-50), targets).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(LOGITS, targets).item() > 0


def test_lowered_rows_are_those_named() -> None:
    """What training has to make up for; the other logits, and those given, stay as they are."""
    assert lowered(LOGITS, [1], 0.5).tolist() == [[1.0, -0.5, 3.0], [0.0, 1.5, -1.0]]
    assert LOGITS.tolist() == [[1.0, 0.0, 3.0], [0.0, 2.0, -1.0]]
