"""Transfer to real images: the way back from scaled images to the original's pixels, and the stored table."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.base import ClipDataset, Frame
from crowdloc.models.decoding import Detections
from crowdloc.studies import transfer


def dataset(folder, height: int, width: int) -> ClipDataset:
    image = np.zeros((height, width, 3), np.uint8)
    image[3 * height // 4 :, width // 2 :] = 255
    cv2.imwrite(str(folder / "a.png"), image)
    return ClipDataset([Frame("a", "a", folder / "a.png", np.array([[5.0, 6.0]]))], name="test", num_frames=1)


@pytest.mark.parametrize(("height", "width"), [(576, 768), (144, 100), (480, 641)])
def test_detections_come_back_in_pixels_of_the_original(tmp_path, monkeypatch, height, width):
    resized = transfer.Resized(dataset(tmp_path, height, width), 288)
    image = resized.image(0)
    assert image.shape == (288, round(width * 288 / height), 3)

    def corner(model, data):  # stands for a network that finds the white corner's first pixel
        y, x = (int(axis.min()) for axis in np.nonzero(data.image(0)[..., 0] > 127))
        return [Detections(np.array([[x - 0.5, y - 0.5]]), np.array([0.9]))]  # the corner lies between two pixels

    monkeypatch.setattr(transfer, "predict", corner)
    (found,) = resized.predict(None)
    assert found.points[0] == pytest.approx([width // 2 - 0.5, 3 * height // 4 - 0.5], abs=0.51 * height / 288 + 0.01)
    assert found.scores.tolist() == [0.9]
    assert resized.frames[0].points.tolist() == [[5.0, 6.0]]  # annotations stay in pixels of the original


def test_the_table_averages_seeds(tmp_path):
    path = tmp_path / "transfer.csv"
    path.write_text(
        "trained on,tested on,height,seed,images,MAE\n"
        "sense,mall,as is,0,150,4.0\nsense,mall,as is,1,150,6.0\nsense,mall,288,0,150,3.0\n"
    )
    rows = transfer.table(path).to_dict("records")
    assert rows[0] == {
        "trained on": "sense",
        "tested on": "mall",
        "height": "as is",
        "images": 150.0,
        "MAE": 5.0,
        "seeds": 2,
    }
    assert (rows[1]["height"], rows[1]["MAE"], rows[1]["seeds"]) == ("288", 3.0, 1)
    with pytest.raises(CrowdlocError, match="not found: restore it"):
        transfer.table(tmp_path / "none.csv")


def test_the_stored_study_holds_every_planned_training():
    rows = transfer.table().set_index(["trained on", "tested on", "height"])["seeds"]
    assert rows.index.is_unique
    for trained, seeds in transfer.SEEDS.items():
        heights = ("as is", "288") if trained in transfer.DOMAINS else ("as is",)
        assert all(rows[trained, tested, height] == len(seeds) for tested in transfer.REAL for height in heights)
    assert transfer.as_text().count("\n") == len(rows)
