import pathlib
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from crowdloc.core.errors import CrowdlocError
from crowdloc.models import VGG16Frontend, build_model, initialise, load_pretrained, normalise, parameter_count
from crowdloc.models.parts.head import prior_logit

SMALL = {"width": 1 / 32, "norm": "batch"}


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("raznet", {}, 18_242_305),
        ("gnanet", {}, 30_039_809),
        ("s-gnanet", {}, 18_242_305),
        ("frame-stack", {}, 25_320_705),
        ("gnanet", {"gamma": (5.0,), "num_points": 8}, 30_039_809),  # attention has no parameters
        ("gnanet", {"attention": "random"}, 30_039_809),
        ("gnanet", {"attention": "deformable"}, 31_861_985),  # two modules of one frame, one of three
    ],
)
def test_parameter_counts_at_full_width(name, options, count):
    with torch.device("meta"):
        assert parameter_count(build_model(name, **options)) == count


@pytest.mark.parametrize("name", ["raznet", "gnanet", "s-gnanet", "frame-stack"])
@pytest.mark.parametrize("size", [(32, 40), (33, 47), (8, 8), (1, 1)])
def test_the_map_has_the_size_of_the_image(name, size):
    model = build_model(name, **SMALL).eval()
    assert model(torch.randn(2, len(model.offsets), 3, *size)).shape == (2, 1, *size)


def test_networks_say_which_frames_they_look_at():
    offsets = {name: build_model(name, **SMALL).offsets for name in ("raznet", "s-gnanet", "gnanet", "frame-stack")}
    assert offsets == {"raznet": (0,), "s-gnanet": (0,), "gnanet": (-1, 0, 1), "frame-stack": (-1, 0, 1)}
    assert build_model("gnanet", num_frames=4, **SMALL).offsets == (-2, -1, 0, 1)  # the keyframe is frame m // 2
    assert build_model("gnanet", num_frames=4, **SMALL).keyframe == 2
    with pytest.raises(ValueError, match="num_frames must be a whole number of at least 1, got 0"):
        build_model("frame-stack", num_frames=0, **SMALL)


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_gnanet_looks_at_every_frame(frame):
    model = build_model("gnanet", **SMALL)  # in training mode the batch statistics keep the untrained signal alive
    clips = torch.randn(1, 3, 3, 32, 32)
    other = clips.clone()
    other[:, frame] = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(model(clips, step=0), model(other, step=0))


def test_every_parameter_gets_a_gradient():
    for name in ("raznet", "gnanet", "s-gnanet", "frame-stack"):
        model = build_model(name, **SMALL)
        model(torch.randn(2, len(model.offsets), 3, 24, 24)).square().mean().backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        # A bias before a batch norm would have no gradient; there must be none of these either.
        assert not without, name


def test_draws_differ_between_modules_and_steps_but_not_between_tests():
    model = build_model("gnanet", **SMALL)
    features = torch.rand(1, 3, model.channels, 12, 12)
    test = [model.eval().aggregate(features, None) for _ in range(2)]
    assert torch.equal(*test)
    steps = [model.aggregate(features, step) for step in (0, 1)]
    assert not torch.equal(*steps)
    seeds = {model._seed(name, 3) for name in ("scene", "keyframe", "temporal")}
    assert len(seeds) == 3


def test_initialisation_is_a_function_of_the_seed_and_of_the_module_alone():
    first, second, other = (build_model("raznet", **SMALL) for _ in range(3))
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        initialise(model, seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.backbone.features[0].weight, other.backbone.features[0].weight)
    bigger = build_model("gnanet", **SMALL)
    initialise(bigger, 1)
    assert torch.equal(first.backbone.features[0].weight, bigger.backbone.features[0].weight)
    assert first.head.layers[-1].bias.item() == pytest.approx(-5.4, abs=0.02)
    assert first.head.layers[-1].weight.abs().max() < 0.05


def test_pretrained_backbone_from_a_file(tmp_path):
    model = build_model("raznet").backbone
    state = {k: torch.full_like(v, 0.25).half() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    assert "vgg.safetensors" in load_pretrained(model, tmp_path / "vgg.safetensors")
    assert model.features[21].weight.unique().tolist() == [0.25]
    assert "random" in load_pretrained(model, None)


def test_pretrained_backbone_errors_name_the_file(tmp_path):
    model = build_model("raznet").backbone
    with pytest.raises(CrowdlocError, match="none.safetensors not found"):
        load_pretrained(model, tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CrowdlocError, match="bad.safetensors is not a readable"):
        load_pretrained(model, tmp_path / "bad.safetensors")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(CrowdlocError, match="odd.safetensors does not hold"):
        load_pretrained(model, tmp_path / "odd.safetensors")
    with pytest.raises(CrowdlocError, match="full|width"):
        load_pretrained(build_model("raznet", **SMALL).backbone, tmp_path / "vgg.safetensors")


def test_backbone_names_are_torchvisions():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = torchvision.models.vgg16().features[:23].state_dict()
        ours = build_model("raznet").backbone.features.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_normalise_is_imagenets():
    image = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 1, 3)
    expected = [(0 / 255 - 0.485) / 0.229, (127 / 255 - 0.456) / 0.224, (255 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(normalise(image).flatten(), torch.tensor(expected))


def test_bad_names_and_short_clips():
    with pytest.raises(CrowdlocError, match="unknown method 'gnanett'"):
        build_model("gnanett")
    with pytest.raises(ValueError, match="fusion must be one of"):
        build_model("gnanet", fusion="product", **SMALL)
    with pytest.raises(ValueError, match="clips have 1 frames but GNANet looks at 3"):
        build_model("gnanet", **SMALL)(torch.zeros(1, 1, 3, 8, 8))


def test_widths_of_backbone_feature_and_head_are_separate():
    model = build_model("raznet", width=1 / 4, feature_width=1 / 8, head_width=1 / 16)
    assert model.backbone.features[0].out_channels == 16 and model.channels == 64
    assert model.head.layers[0].in_channels == 64 and model.head.layers[0].out_channels == 32


def test_taps_give_the_maps_of_several_strides():
    taps = ("conv2_2", "conv3_3", "conv4_3")
    maps = VGG16Frontend(width=1 / 32, taps=taps)(torch.randn(1, 3, 16, 24))
    assert [tuple(m.shape) for m in maps] == [(1, 4, 8, 12), (1, 8, 4, 6), (1, 16, 2, 3)]
    whole = VGG16Frontend(width=1 / 32, taps=("conv1_2",))
    images = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(whole(images)[0], whole.features[:4](images))
    with pytest.raises(ValueError, match="tap 'conv5_1' is no convolution of the front-end"):
        VGG16Frontend(taps=("conv5_1",))


def test_a_planted_file_in_torchvisions_cache_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ran = tmp_path / "ran"
    planted = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    planted.parent.mkdir(parents=True)

    class Payload:
        def __reduce__(self):
            return (pathlib.Path.touch, (ran,))

    torch.save({"features.0.weight": Payload()}, planted)
    with pytest.raises(CrowdlocError, match="vgg16-397923af.pth is not torchvision's file"):
        load_pretrained(build_model("raznet").backbone, "imagenet")
    assert not ran.exists()
    # Also where the hash is right: nothing but tensors is unpickled.
    right = SimpleNamespace(hexdigest=lambda: "397923af" + 56 * "0")
    monkeypatch.setattr("hashlib.file_digest", lambda *_: right)
    with pytest.raises(CrowdlocError, match="could not be had"):
        load_pretrained(build_model("raznet").backbone, "imagenet")
    assert not ran.exists()


def test_the_head_starts_at_the_best_constant_answer():
    """p / (1 - p) = w·π / (1 - π): the weighted loss has zero slope there."""
    share, weight = 0.002, 50.0
    logit = torch.tensor(prior_logit(share, weight), requires_grad=True)
    loss = -(weight * share * logit.sigmoid().log() + (1 - share) * (1 - logit.sigmoid()).log())
    loss.backward()
    assert abs(logit.grad.item()) < 1e-6
    assert prior_logit(9e-5) == pytest.approx(-5.4, abs=0.01)
