"""What a run of the network says of its stages: arrows, shapes, parameters, operations, by hand where possible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch
from torch import nn

from crowdloc.core.errors import CrowdlocError
from crowdloc.figures import architecture as figures
from crowdloc.models import build_model
from crowdloc.studies import architecture as a

SMALL = {"width": 1 / 64, "norm": "batch"}


@pytest.fixture(scope="module")
def small():
    return a.trace(build_model("gnanet", **SMALL), torch.rand(1, 3, 3, 32, 40))


def test_full_width_has_the_papers_parameters():
    wide = a.full_width()
    assert wide.parameters == 30_039_809
    assert wide.stages["backbone"].output == (3, 512, 135, 240) and wide.stages["head"].output == (1, 1, 1080, 1920)
    assert wide.stages["combine"].parameters == 1536 * 512 * 9 + 512
    # products of the scene's convolution: cells × outputs × inputs × 9
    assert wide.stages["combine"].multiply_adds == 135 * 240 * 512 * 1536 * 9
    # draws: cells × channels × (score and value) × foci × samplings × frames × points
    assert wide.stages["temporal_gna"].multiply_adds == 135 * 240 * 512 * 2 * 3 * 3 * 3 * 32


def test_arrows_are_those_of_the_papers_figure(small):
    found = {(arrow.source, arrow.target) for arrow in small.arrows}
    assert found == {
        ("frames", "backbone"), ("backbone", "combine"), ("combine", "scene_gna"), ("combine", "context"),
        ("scene_gna", "context"), ("context", "temporal_gna"), ("context", "keyframe_gna"),
        ("backbone", "temporal_gna"), ("backbone", "keyframe_gna"), ("backbone", "fusion"),
        ("temporal_gna", "fusion"), ("keyframe_gna", "fusion"), ("fusion", "head"),
    }  # fmt: skip
    roles = {arrow.role for arrow in small.arrows if (arrow.source, arrow.target) == ("context", "temporal_gna")}
    assert roles == {"query"}
    assert small.arrows == a.full_width(size=(64, 96)).arrows


def test_the_trace_leaves_no_hook_behind(small):
    model = build_model("gnanet", **SMALL)
    a.trace(model, torch.rand(1, 3, 3, 16, 16))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    found = a.times(model, torch.rand(1, 3, 3, 16, 16), repeats=1)
    assert set(found) == {*small.stages, "whole"} and found["whole"] >= max(v for k, v in found.items() if k != "whole")
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_unknown_layers_and_idle_children_are_told():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Softplus()

        def forward(self, clips):
            return self.second(self.first(clips[:, 0]))

    with pytest.raises(CrowdlocError, match="Softplus: no rule says"):
        a.trace(Odd(), torch.rand(1, 1, 3, 8, 8))
    odd = Odd()
    odd.forward = lambda clips: odd.first(clips[:, 0])
    with pytest.raises(CrowdlocError, match="second did not run"):
        a.trace(odd, torch.rand(1, 1, 3, 8, 8))


def test_operations_of_layers_by_hand():
    convolution, deconvolution = nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ConvTranspose2d(4, 5, 4, 2, 1)
    image = torch.rand(1, 4, 7, 9)
    assert a.multiply_adds(convolution, [image], convolution(image)) == 7 * 9 * 6 * 2 * 9
    assert a.multiply_adds(deconvolution, [image], deconvolution(image)) == 4 * 7 * 9 * 5 * 16


def test_shares_add_up_and_the_table_has_every_stage(small):
    shares = a.shares(small, dict.fromkeys(small.stages, 2.0))
    assert shares.sum().tolist() == pytest.approx([100] * 3)
    table = a.table({"one": small})
    assert list(table.index) == [*small.stages, "whole"]
    assert table.loc["whole", ("one", "parameters")] == f"{small.parameters:,}"


def test_no_text_of_the_drawing_covers_another_or_leaves_its_box(small):
    frames = np.zeros((3, 288, 512, 3), np.uint8)
    figure = figures.network(
        *a.drawing(small, a.full_width(), frames, np.empty((0, 2))), note="First line\nSecond line"
    )
    figure.canvas.draw()
    ax, to_inches = figure.axes[0], figure.dpi
    places = [(text.get_text(), text.get_window_extent()) for text in ax.texts if text.get_text()]
    for number, (one, box) in enumerate(places):
        assert not [other for other, place in places[:number] if box.overlaps(place)], one
    drawn = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    boxes = [box for box in drawn if box.width < 2 * to_inches]
    assert len(boxes) == len(figures.PLACES)
    for text, place in places:
        for box in boxes:
            if box.contains(*place.get_points().mean(axis=0)):
                assert box.x0 < place.x0 and place.x1 < box.x1 and box.y0 < place.y0 and place.y1 < box.y1, text
    plt.close(figure)


def test_lines_break_after_semicolons():
    assert figures._broken("1×1 conv; 3×3 conv; 2 × max-pool") == ["1×1 conv; 3×3 conv", "2 × max-pool"]
    assert figures._broken("one long description that has no semicolon") == [
        "one long description that has no semicolon"
    ]


def test_the_drawing_has_a_box_per_stage(small):
    frames = np.zeros((3, 32, 40, 3), np.uint8)
    blocks, arrows = a.drawing(small, a.full_width(size=(64, 96)), frames, np.array([[5.0, 6.0]]))
    assert set(blocks) == set(figures.PLACES)
    figure = figures.network(blocks, arrows, note="a note")
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert {"Temporal GNA", "Sum", "1 counted", "a note", "query"} <= shown
    plt.close(figure)
    with pytest.raises(CrowdlocError, match="built differently"):
        a.drawing(
            small, a.trace(build_model("frame-stack", **SMALL), torch.rand(1, 3, 3, 16, 16)), frames, np.empty((0, 2))
        )
