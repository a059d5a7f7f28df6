"""Networks of MONAI (https://monai.io), each in 3D and 2D, with the sizes that suit one GPU as defaults."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from seglib.errors import ConfigError
from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn


class _Monai(ModelPart):
    dimensions: Literal["3D", "2D"] = Field(
        "3D", title="Dimensions", description="3D sees depth; 2D works plane by plane, and its patches have z = 1."
    )

    @property
    def is_flat(self) -> bool:
        return self.dimensions == "2D"

    @property
    def dims(self) -> int:
        """2 or 3."""
        return 2 if self.is_flat else 3

    def _sides(self, side: int) -> Stride:
        return (1 if self.is_flat else side, side, side)


class VNetConfig(_Monai):
    """V-Net: residual levels with large kernels (Milletari et al. 2016)."""

    kind: Literal["vnet"] = "vnet"
    dropout: float = Field(
        0.5, ge=0, le=0.8, title="Dropout", description="Share of channels switched off at random while training."
    )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("in_tr.", "down_tr")

    @property
    def stride(self) -> Stride:
        return self._sides(16)


class SegResNetConfig(_Monai):
    """SegResNet: a residual encoder with a light decoder (Myronenko 2018)."""

    kind: Literal["segresnet"] = "segresnet"
    start_channels: Literal[8, 16, 32, 64] = Field(
        16, title="Start channels", description="Channels of the first level; each further level has twice as many."
    )
    dropout: float = Field(
        0.0, ge=0, le=0.8, title="Dropout", description="Share of channels switched off at random while training."
    )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("convInit.", "down_layers.")

    @property
    def stride(self) -> Stride:
        return self._sides(8)


class SwinUNETRConfig(_Monai):
    """Swin UNETR: a windowed transformer as encoder (Hatamizadeh et al. 2022); strong, and slow on a CPU."""

    kind: Literal["swin_unetr"] = "swin_unetr"
    feature_size: Literal[12, 24, 36, 48] = Field(
        24, title="Feature size", description="Channels of the first level; memory grows with it."
    )
    attention_dropout: float = Field(
        0.0, ge=0, le=0.8, title="Attention dropout", description="Share of attention switched off at random."
    )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("swinViT.",)

    @property
    def stride(self) -> Stride:
        return self._sides(32)

    @property
    def smallest(self) -> Stride:
        """At the deepest level norms need more than one voxel."""
        z, y, x = self.stride
        return z, 2 * y, 2 * x


class UNETRConfig(_Monai):
    """UNETR: a plain transformer as encoder (Hatamizadeh et al. 2022); takes patches of the trained size only."""

    kind: Literal["unetr"] = "unetr"
    feature_size: Literal[8, 16, 32] = Field(16, title="Feature size", description="Channels of the decoder.")
    hidden_size: Literal[192, 384, 768] = Field(
        768, title="Hidden size", description="Width of the transformer; 768 is the published one."
    )
    heads: Literal[3, 6, 12] = Field(12, title="Heads", description="Attention heads of each transformer layer.")

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("vit.",)

    @property
    def stride(self) -> Stride:
        return self._sides(16)


class DynUNetConfig(_Monai):
    """DynUNet: the U-Net of nnU-Net (Isensee et al. 2021), with instance norm and leaky ReLU."""

    kind: Literal["dynunet"] = "dynunet"
    depth: int = Field(
        4, ge=2, le=7, title="Depth", description="Number of levels.", json_schema_extra={"unit": "levels"}
    )
    start_channels: int = Field(
        32, ge=4, le=128, title="Start channels", description="Channels of the first level; at most 320 further down."
    )
    flat_levels: int = Field(
        0,
        ge=0,
        le=6,
        title="Flat levels",
        description="So many of the first levels look and shrink in the plane only; for voxels deeper than wide.",
        json_schema_extra={"unit": "levels"},
    )
    residual: bool = Field(False, title="Residual", description="Residual levels, as in nnU-Net's ResEnc presets.")
    deep_supervision: bool = Field(
        True,
        title="Deep supervision",
        description="Coarser levels predict too, and their losses count half as much each.",
    )

    @model_validator(mode="after")
    def _some_level_sees_depth(self) -> Self:
        if self.flat_levels >= self.depth:
            raise ValueError(f"flat_levels ({self.flat_levels}) must be fewer than the {self.depth} levels there are")
        return self

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("input_block.", "downsamples.", "bottleneck.")

    @property
    def stride(self) -> Stride:
        side = 2 ** (self.depth - 1)
        return (1 if self.is_flat else 2 ** (self.depth - 1 - self.flat_levels), side, side)


class AttentionUNetConfig(_Monai):
    """Attention U-Net: skips are weighted by what the decoder looks for (Oktay et al. 2018)."""

    kind: Literal["attention_unet"] = "attention_unet"
    depth: int = Field(
        4, ge=2, le=6, title="Depth", description="Number of levels.", json_schema_extra={"unit": "levels"}
    )
    start_channels: int = Field(
        16,
        ge=4,
        le=128,
        title="Start channels",
        description="Channels of the first level; each further has twice as many.",
    )
    dropout: float = Field(
        0.0, ge=0, le=0.8, title="Dropout", description="Share of channels switched off at random while training."
    )

    @property
    def stride(self) -> Stride:
        return self._sides(2 ** (self.depth - 1))


class BasicUNetConfig(_Monai):
    """Basic U-Net: five levels as in Falk et al. 2019."""

    kind: Literal["basic_unet"] = "basic_unet"
    start_channels: int = Field(
        32,
        ge=4,
        le=128,
        title="Start channels",
        description="Channels of the first level; eight times as many deepest.",
    )
    dropout: float = Field(
        0.0, ge=0, le=0.8, title="Dropout", description="Share of channels switched off at random while training."
    )
    nested: bool = Field(
        False,
        title="Nested (U-Net++)",
        description="Dense skips between all levels (Zhou et al. 2018); about twice the cost.",
    )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("conv_0", "down_")

    @property
    def stride(self) -> Stride:
        return self._sides(16)


def _build_vnet(config: VNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import VNet

    if 16 % inputs:
        raise ConfigError(
            f"V-Net spreads its inputs over 16 channels, and {inputs} do not divide 16: take another network, or a "
            "normalisation that gives 1 channel."
        )
    rate = config.dropout
    network = VNet(
        config.dims, inputs, outputs, dropout_prob_down=rate, dropout_prob_up=(rate, rate), dropout_dim=config.dims
    )
    return _fitted(config, network)


def _build_segresnet(config: SegResNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import SegResNet

    network = SegResNet(
        config.dims,
        config.start_channels,
        inputs,
        outputs,
        dropout_prob=config.dropout or None,
        blocks_down=(1, 2, 2, 4),
    )
    return _fitted(config, network)


def _build_swin_unetr(config: SwinUNETRConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import SwinUNETR

    from seglib.models.networks.meta import NumbersOnCPU

    with NumbersOnCPU():
        network = SwinUNETR(
            inputs,
            outputs,
            feature_size=config.feature_size,
            spatial_dims=config.dims,
            attn_drop_rate=config.attention_dropout,
        )
    return _fitted(config, network)


def _build_unetr(config: UNETRConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import UNETR

    from seglib.models.networks.fixed import FixedSize

    network = UNETR(
        inputs,
        outputs,
        shape[3 - config.dims :],
        feature_size=config.feature_size,
        hidden_size=config.hidden_size,
        mlp_dim=4 * config.hidden_size,
        num_heads=config.heads,
        spatial_dims=config.dims,
    )
    return FixedSize(_fitted(config, network), shape)


def _build_dynunet(config: DynUNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import DynUNet

    from seglib.models.networks.deep import DeepSupervision

    levels = range(config.depth)
    kernels = [[1 if level < config.flat_levels else 3, 3, 3][3 - config.dims :] for level in levels]
    shrinks = [[1 if level <= config.flat_levels else 2, 2, 2][3 - config.dims :] for level in levels[1:]]
    # A U-Net of two levels has no coarser one to supervise.
    coarse = max(0, config.depth - 2) if config.deep_supervision else 0
    network = DynUNet(
        config.dims,
        inputs,
        outputs,
        kernels,
        [1, *shrinks],
        shrinks,
        filters=[min(config.start_channels * 2**level, 320) for level in levels],
        res_block=config.residual,
        deep_supervision=coarse > 0,
        deep_supr_num=max(1, coarse),
    )
    return DeepSupervision(network, coarse, flat=config.is_flat)


def _build_attention_unet(config: AttentionUNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import AttentionUnet

    channels = [config.start_channels * 2**level for level in range(config.depth)]
    strides = [2] * (config.depth - 1)
    return _fitted(config, AttentionUnet(config.dims, inputs, outputs, channels, strides, dropout=config.dropout))


def _build_basic_unet(config: BasicUNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    from monai.networks.nets import BasicUNet, BasicUNetPlusPlus

    from seglib.models.networks.deep import Last

    first = config.start_channels
    features = (first, first, 2 * first, 4 * first, 8 * first, first)
    if config.nested:
        nested = BasicUNetPlusPlus(config.dims, inputs, outputs, features, dropout=config.dropout)
        return _fitted(config, Last(nested, unused=("final_conv_0_1", "final_conv_0_2", "final_conv_0_3")))
    return _fitted(config, BasicUNet(config.dims, inputs, outputs, features, dropout=config.dropout))


def _fitted(config: _Monai, network: "nn.Module") -> "nn.Module":
    """A 2D network takes volumes plane by plane."""
    from seglib.models.networks.planes import Planes

    return Planes(network) if config.is_flat else network


ARCHITECTURES = (
    Architecture(SegResNetConfig, _build_segresnet),
    Architecture(DynUNetConfig, _build_dynunet),
    Architecture(BasicUNetConfig, _build_basic_unet),
    Architecture(AttentionUNetConfig, _build_attention_unet),
    Architecture(VNetConfig, _build_vnet),
    Architecture(SwinUNETRConfig, _build_swin_unetr),
    Architecture(UNETRConfig, _build_unetr),
)
