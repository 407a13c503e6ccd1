import math

import pytest
import torch

from medseg.segmentation.losses import DiceCrossEntropy, supervised


def certain(target: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits that say `target` with all certainty."""
    return torch.nn.functional.one_hot(target, classes).movedim(-1, 1) * 50.0


def test_a_perfect_answer_costs_nothing() -> None:
    target = torch.tensor([[[0, 1], [2, 2]]])
    assert float(DiceCrossEntropy()(certain(target, 3), target)) == pytest.approx(0, abs=1e-6)


def test_the_value_is_the_formula() -> None:
    """Uniform logits over two labels on four voxels, one of them foreground: p = ½ everywhere."""
    target = torch.tensor([[[1, 0], [0, 0]]])
    dice = (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1)
    assert float(DiceCrossEntropy()(torch.zeros(1, 2, 2, 2), target)) == pytest.approx(math.log(2) + 1 - dice)
    assert float(DiceCrossEntropy(dice=0)(torch.zeros(1, 2, 2, 2), target)) == pytest.approx(math.log(2))


def test_over_the_batch_an_absent_label_does_not_dominate() -> None:
    target = torch.zeros(2, 4, 4, dtype=torch.long)
    target[0] = 1
    logits = certain(target, 2)
    logits[1, 1, 0, 0] = 60.0  # one wrong voxel in the image without the label
    whole = float(DiceCrossEntropy(cross_entropy=0)(logits, target))
    each = float(DiceCrossEntropy(cross_entropy=0, batch=False)(logits, target))
    assert whole == pytest.approx(1 - 33 / 34, abs=1e-4)
    assert each == pytest.approx(0.5 * (1 - 1 / 2), abs=1e-4)


def test_deep_supervision_weights_sum_to_one() -> None:
    target = torch.randint(3, (2, 8, 8))
    loss = DiceCrossEntropy()
    levels = [certain(target[:, :: 2**n, :: 2**n], 3) for n in range(3)]
    assert float(supervised(loss, levels, target)) == pytest.approx(0, abs=1e-6)
    wrong = [torch.zeros(2, 3, 8 // 2**n, 8 // 2**n) for n in range(3)]
    ce = DiceCrossEntropy(dice=0)
    assert float(supervised(ce, wrong, target)) == pytest.approx(math.log(3), abs=1e-6)


def test_overlapping_labels_have_their_own_sigmoid() -> None:
    target = torch.tensor([[[0, 1, 2, 3]]])  # bits
    right = torch.tensor([[[[-9.0, 9, -9, 9]], [[-9.0, -9, 9, 9]]]])  # (1, 2, 1, 4)
    loss = DiceCrossEntropy(exclusive=False)
    assert loss(right, target) < 0.01
    assert loss(-right, target) > 5


def test_a_label_that_was_not_annotated_gives_no_loss() -> None:
    target = torch.tensor([[[1, 1, 0, 0]]])
    known = torch.tensor([[True, False]])
    for exclusive in (True, False):
        loss = DiceCrossEntropy(exclusive=exclusive)
        logits = torch.randn(1, 2 + exclusive, 1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        if not exclusive:
            loss(logits, target, known).backward()
            assert logits.grad is not None
            assert not logits.grad[:, 1].any()
            assert logits.grad[:, 0].any()
        else:  # what is said to be the unknown label counts as background
            moved = logits.detach().clone()
            low, high = moved[:, 0].clone(), moved[:, 2].clone()
            moved[:, 0], moved[:, 2] = high, low
            assert torch.isclose(loss(logits, target, known), loss(moved, target, known))


def test_weights_raise_what_a_label_costs() -> None:
    target = torch.tensor([[[1, 1, 2, 2]]])
    logits = torch.zeros(1, 3, 1, 4)
    logits[:, 1] = 2.0  # wrong on label 2
    plain, weighted = DiceCrossEntropy(), DiceCrossEntropy(weights=[1.0, 5.0])
    assert weighted(logits, target) > plain(logits, target)
