"""MCNN: columns, grey input, stride."""

import numpy as np
import torch
from torch import nn

from crowdloc.models import build_model, normalise
from crowdloc.models.mcnn import to_grey


def kernels(model):
    return [
        [(m.kernel_size[0], m.out_channels) for m in column if isinstance(m, nn.Conv2d)] for column in model.columns
    ]


def test_columns_have_the_published_kernels_and_channels():
    assert kernels(build_model("mcnn")) == [
        [(9, 16), (7, 32), (7, 16), (7, 8)],
        [(7, 20), (5, 40), (5, 20), (5, 10)],
        [(5, 24), (3, 48), (3, 24), (3, 12)],
    ]


def test_it_sees_luminance_alone():
    grey = torch.full((2, 2, 3), 114, dtype=torch.uint8)  # luminance 114
    blue = torch.zeros(2, 2, 3, dtype=torch.uint8)
    blue[..., 1], blue[..., 2] = 194, 1  # .587·194 + .114 = 113.99
    found = to_grey(torch.stack([normalise(grey), normalise(blue)]))
    np.testing.assert_allclose(found[0], (114 / 255 - 0.449) / 0.226, atol=1e-6)
    np.testing.assert_allclose(found[1], found[0], atol=0.001)


def test_colour_reaches_the_variant_on_rgb_only():
    images = torch.randn(1, 3, 16, 16)
    swapped = images[:, [2, 1, 0]]
    swapped_grey = images + torch.randn(1, 1, 16, 16) * 0  # same luminance
    grey, colour = build_model("mcnn").eval(), build_model("mcnn", grey=False).eval()
    assert torch.equal(grey.encode(images)[0], grey.encode(swapped_grey)[0])
    assert not torch.allclose(colour.encode(images)[0], colour.encode(swapped)[0])


def test_the_map_may_fall_below_zero():
    """The published port's last ReLU would leave a network that starts below zero without a gradient."""
    model = build_model("mcnn").eval()
    model.reset_output(-1.0)
    assert (model.encode(torch.randn(1, 3, 16, 16))[0] < 0).all()
