"""ConvLSTM: the cell's equations, both directions of time, a map for every frame."""

import pytest
import torch

from crowdloc.models import METHODS, build_model
from crowdloc.models.convlstm import Cell


def test_the_cell_remembers_by_its_gates():
    cell = Cell(1, 1, 1)
    seen, output, memory = torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), -0.2), torch.full((1, 1, 1, 1), 0.7)
    weight, bias = cell.gates.weight[:, :, 0, 0], cell.gates.bias
    take, keep, show, content = weight @ torch.tensor([0.3, -0.2]) + bias
    expected = keep.sigmoid() * 0.7 + take.sigmoid() * content.tanh()
    found, after = cell(seen, (output, memory))
    torch.testing.assert_close(after.squeeze(), expected)
    torch.testing.assert_close(found.squeeze(), show.sigmoid() * expected.tanh())


@pytest.mark.parametrize(("frame", "seen_by"), [(0, (True, False)), (2, (False, True))])
def test_one_direction_looks_back_and_the_other_ahead(frame, seen_by):
    model = build_model("convlstm", width=1 / 16)
    clip = torch.randn(1, 3, 3, 6, 6)
    other = clip.clone()
    other[:, frame] += 1
    onward = not torch.equal(model.onward(clip)[:, 1], model.onward(other)[:, 1])
    back = not torch.equal(model.back(clip.flip(1))[:, 1], model.back(other.flip(1))[:, 1])
    assert (onward, back) == seen_by
    assert not torch.equal(model.density(clip), model.density(other))


def test_every_frame_has_a_map_in_its_place():
    model = build_model("convlstm", width=1 / 16)
    clip = torch.randn(2, 3, 3, 5, 6)
    maps = model.densities(clip)
    assert maps.shape == (2, 3, 5, 6)
    assert torch.equal(model.density(clip), maps[:, 1])
    swapped = build_model("convlstm", width=1 / 16)  # directions exchanged, time reversed: the same maps reversed
    swapped.onward, swapped.back = model.back, model.onward
    half = model.output.in_channels // 2
    with torch.no_grad():
        swapped.output.weight.copy_(torch.cat([model.output.weight[:, half:], model.output.weight[:, :half]], dim=1))
        swapped.output.bias.copy_(model.output.bias)
    torch.testing.assert_close(swapped.densities(clip.flip(1)).flip(1), maps)


def test_frames_are_reduced_to_a_quarter():
    model = build_model("convlstm", width=1 / 16)
    images = torch.arange(64.0).view(1, 1, 8, 8).repeat(1, 3, 1, 1)
    assert model.encode(images)[0][0, 0].tolist() == [[13.5, 17.5], [45.5, 49.5]]


def test_tables_say_how_little_is_known():
    assert METHODS["convlstm"].note == "re-implementation from the abstract"
