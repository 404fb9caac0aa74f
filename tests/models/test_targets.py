import numpy as np
import pytest
import torch

from crowdloc.models.targets import cross_target, localization_loss


def test_cross_has_five_pixels_around_the_rounded_head():
    target = cross_target(np.array([[3.4, 2.5]]), 6, 8)  # 2.5 rounds away from zero
    expected = np.zeros((6, 8))
    expected[3, 2:5] = 1
    expected[2:5, 3] = 1
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize(("point", "pixels"), [((0, 0), 3), ((7, 0), 3), ((4, 0), 4), ((9.7, 5.2), 3), ((-3, 2), 4)])
def test_cross_at_the_border_keeps_what_is_inside(point, pixels):
    target = cross_target(np.array([point], dtype=float), 6, 8)
    assert target.sum() == pixels


def test_overlapping_crosses_stay_binary_and_an_empty_image_is_empty():
    assert cross_target(np.array([[3.0, 3.0], [4.0, 3.0]]), 7, 8).max() == 1
    assert cross_target(np.array([[3.0, 3.0], [4.0, 3.0]]), 7, 8).sum() == 8
    assert cross_target(np.zeros((0, 2)), 7, 8).sum() == 0
    assert cross_target(np.array([[0.0, 0.0]]), 1, 1).tolist() == [[1.0]]


def test_loss_is_the_weighted_mean_over_pixels():
    logits = torch.tensor([[[0.3, -1.2], [2.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    p = torch.sigmoid(logits)
    by_hand = -(50 * target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(localization_loss(logits[:, None], target), by_hand)


def test_moving_a_head_changes_the_loss():
    logits = torch.zeros(1, 1, 8, 8)
    logits[0, 0, 2, 2] = 4.0
    at = [torch.from_numpy(cross_target(np.array([[x, 2.0]]), 8, 8))[None] for x in (2.0, 5.0)]
    assert localization_loss(logits, at[0]) < localization_loss(logits, at[1])
