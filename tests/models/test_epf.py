"""EPF: people flow between cells and neither appear nor vanish, except through the border."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdloc.models import build_model
from crowdloc.models.epf import rectified
from crowdloc.models.method import Sample
from crowdloc.models.parts.flows import CHANNELS, STEPS, arriving, cycle_error, incoming, outgoing

SMALL = {"width": 1 / 16, "norm": "batch"}


def one_person(channel, row, column, size=(5, 6)):
    flows = torch.zeros(1, CHANNELS, *size)
    flows[0, channel, row, column] = 1
    return flows


def test_channels_are_the_nine_cells_row_by_row():
    assert STEPS[0] == (-1, -1) and STEPS[4] == (0, 0) and STEPS[5] == (0, 1) and STEPS[8] == (1, 1)


@pytest.mark.parametrize("channel", range(9))
def test_a_person_leaves_one_cell_and_arrives_in_the_next(channel):
    flows = one_person(channel, 2, 3)
    dy, dx = STEPS[channel]
    assert outgoing(flows).nonzero().tolist() == [[0, 2, 3]]
    assert incoming(flows).nonzero().tolist() == [[0, 2 + dy, 3 + dx]]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_people_neither_appear_nor_vanish(height, width, seed):
    flows = torch.rand(2, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gone = torch.zeros(2, dtype=torch.float64)
    for channel, (dy, dx) in enumerate(STEPS):
        for row in range(height):
            for column in range(width):
                if not (0 <= row + dy < height and 0 <= column + dx < width):
                    gone += flows[:, channel, row, column]
    difference = outgoing(flows).sum(dim=(1, 2)) - incoming(flows).sum(dim=(1, 2))
    torch.testing.assert_close(difference, gone)


def test_without_steps_over_the_border_the_count_stays():
    flows = torch.rand(1, CHANNELS, 6, 7)
    flows[:, :9, [0, -1]] = 0
    flows[:, :9, :, [0, -1]] = 0
    torch.testing.assert_close(outgoing(flows).sum(), incoming(flows).sum())


def test_people_enter_and_leave_in_the_outermost_cells_only():
    flows = torch.zeros(1, CHANNELS, 4, 5)
    flows[:, 9] = 1
    expected = np.ones((4, 5))
    expected[1:-1, 1:-1] = 0
    for found in (outgoing(flows), incoming(flows)):
        np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("channel", range(9))
def test_a_person_that_comes_back_costs_nothing(channel):
    dy, dx = STEPS[channel]
    there, back = one_person(channel, 2, 3), one_person(8 - channel, 2 + dy, 3 + dx)
    assert cycle_error(there, back) == 0
    assert cycle_error(there, torch.zeros_like(back)) == pytest.approx(1 / 30)
    assert cycle_error(torch.zeros_like(there), back) == pytest.approx(1 / 30)


def test_steps_over_the_border_are_no_part_of_the_cycle():
    assert cycle_error(one_person(0, 0, 0), torch.zeros(1, CHANNELS, 5, 6)) == 0
    assert cycle_error(torch.zeros(1, CHANNELS, 5, 6), one_person(0, 0, 0)) == 0
    assert arriving(one_person(0, 0, 0)).sum() == 0


def test_the_loss_has_six_densities_and_both_cycles():
    """With flows that hold everybody in place the loss is known by hand."""
    model = build_model("epf", **SMALL)
    heads = [torch.tensor([[8.0 * k + 20, 20.0]], dtype=torch.float64) for k in range(3)]
    sample = Sample(torch.randn(1, 3, 3, 48, 64), None, [heads], None, (48, 64))
    first, key, last = (model.target(sample, frame) for frame in range(3))

    def staying(features, pairs):
        flows = [torch.zeros(1, CHANNELS, 6, 8) for _ in pairs]
        for flow in flows:
            flow[:, 4] = key
        return flows

    model.flows = staying
    terms = model.loss(sample, 0)
    expected = (key - first).square().mean() + (key - last).square().mean()
    torch.testing.assert_close(terms["density"], expected)
    assert terms["cycle"] == 0

    def unequal(features, pairs):
        flows = staying(features, pairs)
        flows[1][:, 4] = 0  # key -> before says that nobody is there
        flows[3][:, 4] = 0
        return flows

    model.flows = unequal
    terms = model.loss(sample, 0)
    torch.testing.assert_close(terms["cycle"], 2 * key.square().mean())
    torch.testing.assert_close(terms["density"], expected + 2 * key.square().mean())


def test_a_channel_below_zero_is_zero_and_still_learns():
    flows = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    found = rectified(flows)
    assert found.tolist() == [0, 0, 3]
    found.sum().backward()
    torch.testing.assert_close(flows.grad, torch.tensor([0.1, 0.1, 1.0]))


def test_errors_are_in_units_of_the_mean_density():
    """Ten times as many people, found ten times as well: the same loss, so a rate means the same everywhere."""
    model = build_model("epf", **SMALL)
    heads = [torch.tensor([[8.0 * k + 20, 20.0]], dtype=torch.float64) for k in range(3)]
    few = Sample(torch.zeros(1, 3, 3, 48, 64), None, [heads], None, (48, 64))
    many = few._replace(points=[[points.repeat(10, 1) for points in heads]])
    model.reset_output(0.1)
    model.back_end = torch.nn.Identity()
    model.output = torch.nn.Conv2d(2 * model.backbone.out_channels, CHANNELS, 1)
    before = model.loss(few, 0)
    model.unit.mul_(10)
    after = model.loss(many, 0)
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=1e-4, atol=0)


def test_flows_that_follow_the_people_have_no_loss():
    model = build_model("epf", **SMALL)
    heads = [torch.tensor([[8.0 * k + 36, 24.0]], dtype=torch.float64) for k in range(3)]  # one cell to the right
    sample = Sample(torch.randn(1, 3, 3, 48, 96), None, [heads], None, (48, 96))
    maps = [model.target(sample, frame) for frame in range(3)]

    def following(features, pairs):
        flows = [torch.zeros(1, CHANNELS, 6, 12) for _ in pairs]
        for flow, (start, end) in zip(flows, pairs, strict=True):
            flow[:, 5 if end > start else 3] = maps[start]
        return flows

    model.flows = following
    assert sum(model.loss(sample, 0).values()) < 1e-9
    maps[2] = 0 * maps[2]  # the flows deny that anybody is in the last frame
    assert model.loss(sample, 0)["density"] == pytest.approx(maps[1].square().mean().item())


def test_the_prediction_looks_at_the_frame_before_only():
    model = build_model("epf", **SMALL)
    model.output.reset_parameters()
    model.output.bias.data.fill_(0.5)
    model.eval()
    features = torch.rand(1, 3, model.backbone.out_channels, 4, 5)
    later, earlier = features.clone(), features.clone()
    later[:, 2] += 1
    earlier[:, 0] += 1
    assert torch.equal(model.density(features), model.density(later))
    assert not torch.allclose(model.density(features), model.density(earlier))
    there, back = model.flows(features, [(0, 1), (1, 0)])
    torch.testing.assert_close(model.density(features), (incoming(there) + outgoing(back)) / 2)
    assert model.flow_field([(m,) for m in features[0]]).shape == (CHANNELS, 4, 5)
    assert (there >= 0).all()
