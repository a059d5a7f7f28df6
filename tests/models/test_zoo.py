"""Every architecture of the zoo: it builds, keeps the size, learns in every weight, and knows what sizes it takes."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest
import torch

from seglib.config import RunConfig, parse_run_config
from seglib.errors import ConfigError
from seglib.losses import bce_loss, total_loss
from seglib.models import ARCHITECTURES, build_model, config_class
from seglib.models.zoo.compact import CompactUNetConfig
from seglib.models.zoo.hourglass import HourglassConfig
from seglib.models.zoo.monai import (
    AttentionUNetConfig,
    BasicUNetConfig,
    DynUNetConfig,
    SegResNetConfig,
    SwinUNETRConfig,
    UNETRConfig,
    VNetConfig,
)
from seglib.models.zoo.smp import Decoder, Encoder, SMUNetConfig, refused_by
from seglib.models.zoo.trailmap import TrailmapConfig
from seglib.models.zoo.unet import UNet2DConfig, UNet3DConfig
from seglib.models.zoo.wnet import WNetConfig

ROOT = Path(__file__).parents[2]
DEEP, FLAT = (32, 64, 64), (1, 64, 64)


def every_small_one():
    """A small network of every kind, in 2D and 3D where there are both, and with every switch of our own set."""
    return [
        UNet3DConfig(depth=3, start_channels=4),
        UNet3DConfig(depth=3, start_channels=4, flat_levels=2, residual=True, norm="group", activation="elu",
                     dropout=0.1, deepest_dropout=0.5, upsampling="linear", deep_supervision=True),
        UNet2DConfig(depth=3, start_channels=4),
        UNet2DConfig(depth=3, start_channels=4, residual=True, activation="gelu", norm="instance",
                     upsampling="linear", deep_supervision=True),
        HourglassConfig(depth=3, start_channels=4, stacks=3),
        HourglassConfig(depth=3, start_channels=4, dimensions="2D", residual=True),
        CompactUNetConfig(start_channels=4),
        SegResNetConfig(start_channels=8),
        SegResNetConfig(start_channels=8, dimensions="2D", dropout=0.2),
        DynUNetConfig(depth=4, start_channels=4),
        DynUNetConfig(depth=4, start_channels=4, flat_levels=2, residual=True, deep_supervision=False),
        DynUNetConfig(depth=4, start_channels=4, dimensions="2D"),
        BasicUNetConfig(start_channels=4),
        BasicUNetConfig(start_channels=4, dimensions="2D", nested=True),
        AttentionUNetConfig(depth=3, start_channels=4),
        AttentionUNetConfig(depth=3, start_channels=4, dimensions="2D"),
        VNetConfig(dropout=0.0),
        VNetConfig(dimensions="2D"),
        SwinUNETRConfig(feature_size=12),
        SwinUNETRConfig(feature_size=12, dimensions="2D"),
        UNETRConfig(feature_size=8, hidden_size=192, heads=3),
        UNETRConfig(feature_size=8, hidden_size=192, heads=3, dimensions="2D"),
        TrailmapConfig(),
        WNetConfig(start_channels=4, clusters=3),
        WNetConfig(start_channels=4, similarity="neighbours", objects="dark"),
        SMUNetConfig(encoder="resnet18"),
        SMUNetConfig(encoder="resnet18", flat_levels=2),
        SMUNetConfig(encoder="efficientnet-b0", decoder="fpn"),
    ]  # fmt: skip


def named(config) -> str:
    changed = [f"{name}={value}" for name, value in config.model_dump(exclude_defaults=True).items()]
    return "-".join([config.kind, *changed])


every = pytest.mark.parametrize("config", every_small_one(), ids=named)


def shape_of(config):
    return FLAT if config.is_flat else DEEP


def test_every_kind_is_tried_here():
    assert {config.kind for config in every_small_one()} == {one.kind for one in ARCHITECTURES}


@every
def test_a_step_reaches_every_weight_and_the_result_is_as_large_as_the_input(config):
    torch.manual_seed(0)
    shape = shape_of(config)
    network = build_model(config, inputs=1, outputs=2, shape=shape).train()
    images = torch.randn(2, 1, *shape)
    target = torch.randint(0, 3, (2, *shape), dtype=torch.uint8)
    logits, loss = total_loss(lambda found, truth: bce_loss(found, truth), network(images), target, network)
    assert logits.shape == (2, 2, *shape)
    loss.backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None]
    # Some of MONAI's and of the library of encoders hold a few weights for classifying, which nothing uses here.
    unused = ("vit", "cls_token", "_conv_head", "encoder._bn1")
    assert not [name for name in still if not any(part in name for part in unused)], still
    network.eval()
    with torch.no_grad():
        assert network(images[:1]).shape == (1, 2, *shape)


@every
def test_the_stride_is_what_sides_must_be_multiples_of(config):
    """A multiple works; and half a stride more does not, or is no longer kept."""
    stride = config.stride
    network = build_model(config, inputs=1, outputs=1, shape=shape_of(config)).eval()
    larger = [side + step for side, step in zip(shape_of(config), stride, strict=True)]
    if config.is_flat:
        larger[0] = 1
    if config.kind == "unetr":  # takes what it was built for, and less
        larger = [side - step for side, step in zip(shape_of(config), stride, strict=True)]
        larger[0] = max(1, larger[0])
    with torch.no_grad():
        assert network(torch.randn(1, 1, *larger)).shape[2:] == tuple(larger)


@every
def test_settings_survive_the_form_the_database_and_the_checkpoint(config):
    run = RunConfig.model_validate({"data": {"dataset": 1}, "model": config.model_dump()})
    assert parse_run_config(run.model_dump(mode="json")).model == config
    assert type(run.model) is config_class(config.kind)


@every
def test_the_same_seed_gives_the_same_network(config):
    def weights():
        torch.manual_seed(3)
        network = build_model(config, inputs=2 if config.kind != "unetr" else 1, outputs=1, shape=shape_of(config))
        return torch.cat([weight.ravel() for weight in network.parameters()])

    assert torch.equal(weights(), weights())


def parameters(config, inputs=1, outputs=1, shape=DEEP) -> int:
    with torch.device("meta"):
        network = build_model(config, inputs=inputs, outputs=outputs, shape=shape)
    return sum(weight.numel() for weight in network.parameters())


def test_published_numbers_of_parameters():
    # The mycobacteria notebook's network: 4.418 million.
    assert parameters(CompactUNetConfig()) == 4_418_449
    # "19069955 parameters in total" (Çiçek et al. 2016), of 3 channels and 3 classes; norms are not counted there.
    with torch.device("meta"):
        network = build_model(TrailmapConfig(), inputs=3, outputs=3)
    norms = sum(w.numel() for m in network.modules() if isinstance(m, torch.nn.BatchNorm3d) for w in m.parameters())
    assert sum(weight.numel() for weight in network.parameters()) - norms == 19_069_955
    # UNETR: 92.58 M of 1 input, 14 outputs at 96³ (Hatamizadeh et al. 2022, table); ours has 1 output.
    assert parameters(UNETRConfig(), outputs=14, shape=(96, 96, 96)) / 1e6 == pytest.approx(92.58, rel=0.01)
    # Swin UNETR with 48 features: 61.98 M (Hatamizadeh et al. 2022).
    assert parameters(SwinUNETRConfig(feature_size=48), inputs=4, outputs=3) / 1e6 == pytest.approx(61.98, rel=0.01)
    # V-Net of MONAI's own count.
    assert parameters(VNetConfig()) == 45_593_892 + 16 * 5**3 * 0


def test_a_u_nets_parameters_by_hand():
    """Kernel 3, two levels of 4 and 8 channels, residual, batch norm, linear upsampling."""
    config = UNet3DConfig(depth=2, start_channels=4, residual=True, upsampling="linear")

    def level(a, b):
        return 27 * a * b + 2 * b + 27 * b * b + 2 * b + ((a * b + b) if a != b else 0)

    assert parameters(config) == level(1, 4) + level(4, 8) + (8 * 4 + 4) + level(8, 4) + (4 + 1)


def test_flat_levels_do_not_look_along_z():
    """With all but the deepest level flat and that one's kernel too, planes do not see each other."""
    torch.manual_seed(0)
    config = UNet3DConfig(depth=3, start_channels=4, flat_levels=2, norm="none")
    network = build_model(config, inputs=1, outputs=1).eval()
    image = torch.randn(1, 1, 9, 16, 16)
    image.requires_grad_()
    network(image)[0, 0, 4, 8, 8].backward()
    seen = image.grad.abs().sum((0, 1, 3, 4)) > 0
    # The deepest level alone sees depth: two convolutions of 3, one plane up and down each.
    assert seen.tolist() == [False, False, True, True, True, True, True, False, False]


def test_dropout_rises_from_level_to_level():
    config = UNet3DConfig(depth=5, start_channels=2, dropout=0.1, deepest_dropout=0.5)
    network = build_model(config, inputs=1, outputs=1)
    rates = [level[-1].p for level in network.down]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_losses_of_all_stacks_add_up_and_coarse_ones_count_less():
    network = build_model(HourglassConfig(depth=2, start_channels=2, stacks=3), inputs=1, outputs=1)
    images, target = torch.randn(1, 1, 4, 8, 8), torch.randint(0, 2, (1, 4, 8, 8), dtype=torch.uint8)
    found = network(images)
    losses = [float(bce_loss(one, target).detach()) for one in found]
    logits, whole = total_loss(lambda a, b: bce_loss(a, b), found, target, network)
    assert float(whole.detach()) == pytest.approx(sum(losses))
    assert torch.equal(logits, found[-1])
    deep = build_model(UNet3DConfig(depth=4, start_channels=2, deep_supervision=True), inputs=1, outputs=1)
    assert deep.loss_weights == [0.25, 0.5, 1.0]
    assert len(deep(torch.randn(2, 1, 8, 16, 16))) == 3
    assert isinstance(deep.eval()(torch.randn(1, 1, 8, 16, 16)), torch.Tensor)


@pytest.mark.parametrize("kind", ["basic_unet", "attention_unet", "segresnet", "vnet"])
def test_2d_networks_see_one_plane(kind):
    torch.manual_seed(0)
    network = build_model(config_class(kind)(dimensions="2D"), inputs=1, outputs=1, shape=FLAT).eval()
    planes = torch.randn(1, 1, 3, 32, 32)
    with torch.no_grad():
        together = network(planes)
        apart = torch.cat([network(planes[:, :, z : z + 1]) for z in range(3)], dim=2)
    assert together.shape == (1, 1, 3, 32, 32)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_built_is_said_in_words():
    with pytest.raises(ConfigError, match="3 do not divide 16"):
        build_model(VNetConfig(), inputs=3, outputs=1)
    with pytest.raises(ValueError, match="must be fewer than the 3 levels"):
        UNet3DConfig(depth=3, flat_levels=3)
    network = build_model(UNETRConfig(feature_size=8, hidden_size=192, heads=3), inputs=1, outputs=1, shape=DEEP)
    with pytest.raises(ConfigError, match="trained on patches of"):
        network(torch.randn(1, 1, 48, 64, 64))


def steps_on_meta(config) -> bool:
    """Whether a network builds, keeps the size and has gradients, with nothing allocated."""
    side = 128 if config.decoder == "pan" else 64
    with torch.device("meta"):
        network = build_model(config, inputs=3, outputs=2)
        images = torch.empty(2, 3, side, side, side)
    found = network.to("meta").train()(images)
    found.sum().backward()
    return found.shape == (2, 2, side, side, side)


@pytest.mark.parametrize("decoder", get_args(Decoder))
@pytest.mark.parametrize("encoder", ["vgg16", "resnet18", "densenet121", "efficientnet-b0", "dpn68", "mobileone_s0",
                                     "mit_b0"])  # fmt: skip
def test_one_encoder_of_each_family_steps_with_every_decoder_or_is_refused(encoder, decoder):
    if decoder in refused_by(encoder):
        with pytest.raises(ValueError, match=f"{encoder} does not work with {decoder}, but with"):
            SMUNetConfig(encoder=encoder, decoder=decoder)
        return
    assert steps_on_meta(SMUNetConfig(encoder=encoder, decoder=decoder))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", get_args(Encoder))
def test_every_encoder_steps_with_every_decoder_it_is_offered_with(encoder):
    for decoder in set(get_args(Decoder)) - set(refused_by(encoder)):
        assert steps_on_meta(SMUNetConfig(encoder=encoder, decoder=decoder)), decoder


def test_settings_of_sm_unet_that_cannot_work_are_said():
    with pytest.raises(ValueError, match="flat_levels are for the decoder unet with a ResNet"):
        SMUNetConfig(encoder="vgg16", flat_levels=1)
    with pytest.raises(ConfigError, match="takes 3 channels and there are 1"):
        build_model(SMUNetConfig(encoder="mit_b0"), inputs=1, outputs=1)


ADDED = '''
    from typing import Literal

    from pydantic import Field

    from seglib.models.base import Architecture, ModelPart


    class LineConfig(ModelPart):
        """Line: one convolution."""

        kind: Literal["line"] = "line"
        width: int = Field(3, ge=1, le=9, title="Width", description="Of the kernel.")


    def build(config, *, inputs, outputs, shape):
        from torch import nn

        return nn.Conv3d(inputs, outputs, config.width, padding="same")


    ARCHITECTURES = (Architecture(LineConfig, build),)
'''


def test_an_architecture_is_added_by_one_file(tmp_path):
    """The file lies beside the others; form, command line, comparison and settings know it without a further word."""
    for part in ("seglib", "pages"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "seglib" / "models" / "zoo" / "line.py").write_text(textwrap.dedent(ADDED))
    code = """
        from seglib.config import parse_run_config
        from seglib.models import build_model
        from seglib.training.cost import estimate_cost
        config = parse_run_config({"data": {"dataset": 1}, "model": {"kind": "line", "width": 5}})
        assert type(config.model).__name__ == "LineConfig"
        assert build_model(config.model, inputs=1, outputs=2).weight.shape == (2, 1, 5, 5, 5)
        assert estimate_cost(config, inputs=1, classes=1, half=False).parameters == 126
        from pages.ui.forms import SECTION_ICONS, _kinds
        from seglib.config import RunConfig
        assert "line" in [kind.model_fields["kind"].default for kind in _kinds(RunConfig.model_fields["model"])]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
