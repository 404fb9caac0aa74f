"""CSRNet: layers, dilation, the map's stride and the kept maps that it can stand on."""

import torch
from torch import nn

from crowdloc.models import build_model, initialise


def test_the_back_end_is_dilated_and_keeps_the_size():
    with torch.device("meta"):
        model = build_model("csrnet")
    convolutions = [m for m in model.back_end.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [512, 512, 512, 256, 128, 64]
    assert {(c.kernel_size, c.dilation, c.padding) for c in convolutions} == {((3, 3), (2, 2), (2, 2))}


def test_it_has_the_backbone_of_stage_one():
    options = {"width": 1 / 16, "feature_width": 1 / 32, "head_width": 1 / 32, "norm": "batch"}
    csrnet, epf, raznet = (build_model(name, **options) for name in ("csrnet", "epf", "raznet"))
    for model in (csrnet, epf, raznet):
        initialise(model, 3)
    state = {k: v for k, v in raznet.state_dict().items() if k.startswith("backbone.")}
    for model in (csrnet, epf):
        own = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.")}
        assert own.keys() == state.keys()
        assert all(torch.equal(own[k], state[k]) for k in state)
        assert str(model.backbone) == str(raznet.backbone)  # names the kept maps
    images = torch.randn(1, 3, 33, 47)
    torch.testing.assert_close(csrnet.eval().encode(images)[0], raznet.eval().encode(images)[0])


def test_a_cell_answers_to_what_is_seen_there():
    model = build_model("csrnet", width=1 / 16, norm="batch")
    model.reset_output(0.1)
    torch.nn.init.normal_(model.output.weight)
    image = torch.zeros(1, 3, 384, 384)
    model.eval()
    marked = image.clone()
    marked[..., :8, :8] = 5.0
    with torch.no_grad():
        maps = [model.density(model.encode(images)[0][:, None])[0] for images in (image, marked)]
    change = (maps[0] - maps[1]).abs()
    assert change[0, 0] > 0
    assert not change[30:, 30:].any()  # receptive field: 14 cells of the back-end and 5 of the front-end
