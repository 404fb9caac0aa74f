"""Images at another size: the way back from scaled images to the pixels of the originals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.models import Prediction
from crowdloc.studies.resized import Resized


@pytest.mark.parametrize(("height", "width"), [(576, 768), (144, 100), (480, 641)])
def test_points_come_back_in_pixels_of_the_original(tmp_path, height, width):
    white = np.zeros((height, width, 3), np.uint8)
    white[3 * height // 4 :, width // 2 :] = 255
    cv2.imwrite(str(tmp_path / "a.png"), white)
    frame = Frame("a", "a", tmp_path / "a.png", np.array([[5.0, 6.0]]))
    resized = Resized(ClipDataset([frame], name="test", num_frames=1), 288)
    image = resized.image(0)
    assert image.shape == (288, round(width * 288 / height), 3)

    y, x = (int(axis.min()) for axis in np.nonzero(image[..., 0] > 127))
    seen = Prediction(np.array([[x - 0.5, y - 0.5]]), np.array([0.9]), 2.0)  # the corner lies between two pixels
    (found,) = resized.in_original_pixels([seen])
    assert found.points[0] == pytest.approx([width // 2 - 0.5, 3 * height // 4 - 0.5], abs=0.51 * height / 288 + 0.01)
    assert (found.scores.tolist(), found.count) == ([0.9], 2.0)
    assert resized.frames[0].points.tolist() == [[5.0, 6.0]]  # annotations stay in pixels of the original


def test_counts_without_points_stay(tmp_path):
    frame = Frame("a", "a", tmp_path / "a.png", np.zeros((0, 2)))
    counted = Prediction(count=3.0)
    assert Resized(ClipDataset([frame], name="test", num_frames=1), 288).in_original_pixels([counted]) == [counted]
