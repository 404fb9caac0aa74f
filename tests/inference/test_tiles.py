"""Tiles of a large frame: they cover it, and what is found in them is what is found in the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crowdloc.inference import limits, tiles, windows
from crowdloc.inference.windows import predict_stream
from crowdloc.models import Method, Prediction, build_model


@given(st.integers(1, 7000), st.integers(1, 7000))
def test_cores_cover_a_frame_once_and_have_a_margin_wherever_it_goes_on(height, width):
    for length, spans in (
        (height, sorted({tile.rows for tile in tiles.tiles(height, width)})),
        (width, sorted({tile.columns for tile in tiles.tiles(height, width)})),
    ):
        assert [span.kept for span in spans] == [0, *(span.kept_end for span in spans[:-1])]
        assert spans[-1].kept_end == spans[-1].end == length
        for span in spans:
            assert span.first == 0 or span.kept - span.first == tiles.MARGIN
            assert span.end == length or span.end - span.kept_end == tiles.MARGIN
            assert span.first % 32 == 0
            assert span.end - span.first <= tiles.CORE + 3 * tiles.MARGIN


@pytest.fixture
def small(monkeypatch):
    """Frames from 10,000 pixels on go in tiles, with cores of 128 pixels."""
    monkeypatch.setattr(windows, "IN_ONE_PIECE", 10_000)
    monkeypatch.setattr(tiles, "CORE", 128)
    monkeypatch.setattr(tiles, "MARGIN", 160)


def network(name: str) -> Method:
    """Random weights; the last convolution is made loud enough that its map has peaks of many heights."""
    torch.manual_seed(0)
    model = build_model(name, width=1 / 16).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:
                torch.nn.init.kaiming_normal_(parameter)
        model.head.layers[-1].weight.mul_(0.2)
        model.head.layers[-1].bias.zero_()
    return model


def frames(number: int, height: int, width: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (number, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(300, 500), (257, 333)])
@pytest.mark.parametrize("name", ["raznet", "frame-stack"])
def test_convolutions_find_in_tiles_what_they_find_in_the_whole(name, size, small, monkeypatch):
    model, video = network(name), frames(2, *size)
    in_tiles = list(predict_stream(model, video))
    monkeypatch.setattr(windows, "IN_ONE_PIECE", limits.IN_ONE_PIECE)
    for found, whole in zip(in_tiles, predict_stream(model, video), strict=True):
        assert len(whole.points) > 200
        assert np.unique(whole.points[:, 0] // 128).size > 2
        order, expected = (np.lexsort(np.rint(p.points * 4).T) for p in (found, whole))
        np.testing.assert_allclose(found.points[order], whole.points[expected], atol=2e-2)  # peaks of float32 maps
        np.testing.assert_allclose(found.scores, whole.scores, atol=1e-4)  # in falling order, both


def test_attention_finds_about_as_many_in_tiles(small, monkeypatch):
    """Its neighbours are drawn anew for every tile: not the same points, but the same density of them."""
    model, video = network("gnanet"), frames(3, 300, 500)
    in_tiles = next(iter(predict_stream(model, video)))
    monkeypatch.setattr(windows, "IN_ONE_PIECE", limits.IN_ONE_PIECE)
    whole = next(iter(predict_stream(model, video)))
    assert len(in_tiles.points) == pytest.approx(len(whole.points), rel=0.05)


class Corners(Method):
    """Says what it was shown: the first pixel of every frame, and a point in every place of the tile."""

    offsets = (-1, 0)

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.sizes: list[tuple[int, int]] = []
        self.shown: list[list[float]] = []

    def encode(self, images):
        return (images,)

    def decode(self, window, size):
        self.sizes.append(size)
        self.shown.append([float(maps[0][0, 0, 0]) for maps in window])
        ys, xs = np.mgrid[: size[0], : size[1]]
        points = np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float64)
        return Prediction(points, np.linspace(1, 0.5, len(points)))


def test_every_place_is_found_once_and_tiles_of_one_window_show_the_same_place(small):
    video = [np.full((300, 500, 3), value, np.uint8) for value in (10, 200)]
    model = Corners()
    first, second = predict_stream(model, video)
    for found in (first, second):
        assert len(found.points) == 300 * 500
        assert len(np.unique(found.points, axis=0)) == 300 * 500
        assert (np.diff(found.scores) <= 0).all()
    assert max(model.sizes) <= (128 + 3 * 160, 128 + 3 * 160)
    before, now = model.shown[-1]
    assert before < now
