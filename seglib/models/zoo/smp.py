"""SM-UNet and its kin: 2D encoders made 3D, under nine decoders (ZFTurbo's segmentation-models-pytorch-3d).

Every decoder was tried with every encoder of version 1.0.2 on 64³ and 128³ patches. What is listed here builds and
makes a step; 76 further encoders of the library (SE-Net, Inception, MobileNet, Xception and its timm ones) fail in it
with any decoder, as it hands them strides that they do not take.
"""

import warnings
from typing import TYPE_CHECKING, Literal, Self, get_args

from pydantic import Field, model_validator

from seglib.errors import ConfigError
from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn

Decoder = Literal["unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3", "deeplabv3plus"]
Encoder = Literal[
    "vgg16", "vgg11", "vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_32x16d", "resnext101_32x32d",
    "resnext101_32x48d",
    "densenet121", "densenet161", "densenet169", "densenet201",
    "efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4", "efficientnet-b5",
    "efficientnet-b6", "efficientnet-b7",
    "dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131",
    "mobileone_s0", "mobileone_s1", "mobileone_s2", "mobileone_s3", "mobileone_s4",
    "mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5",
]  # fmt: skip
CLASSES = {
    "unet": "Unet", "unetplusplus": "UnetPlusPlus", "manet": "MAnet", "linknet": "Linknet", "fpn": "FPN",
    "pspnet": "PSPNet", "pan": "PAN", "deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3Plus",
}  # fmt: skip
DILATED = ("pan", "deeplabv3", "deeplabv3plus")
# Decoders that an encoder's family does not work with, found by trying each.
REFUSED: dict[str, tuple[str, ...]] = {
    "vgg": DILATED,
    "densenet": DILATED,
    "mit": ("unetplusplus", "linknet", *DILATED),
}
COLOUR_ONLY = ("mit",)
# Families that shrink as they are told to along each axis; others were tried and give results of another size.
STRIDED = ("resnet", "resnext", "densenet")
LEVELS = 5
PSPNET_LEVELS = 3
# The pyramid of PAN halves its sixteenth three times.
PAN_SMALLEST = 128


def refused_by(encoder: str) -> tuple[str, ...]:
    """Decoders that do not work with an encoder."""
    return next((decoders for family, decoders in REFUSED.items() if encoder.startswith(family)), ())


class SMUNetConfig(ModelPart):
    """SM-UNet: an encoder known from photographs, made 3D, under a decoder of choice."""

    kind: Literal["smp"] = "smp"
    decoder: Decoder = Field(
        "unet",
        title="Decoder",
        description="How features become a segmentation. Unet is the usual one; the others trade detail against speed.",
    )
    encoder: Encoder = Field(
        "vgg16",
        title="Encoder",
        description="What finds the features. VGG16 is what the axon notebooks use; ResNet34 and EfficientNet-B0 are "
        "lighter.",
    )
    flat_levels: int = Field(
        0,
        ge=0,
        le=LEVELS,
        title="Flat levels",
        description="So many of the first levels shrink in the plane only; for voxels deeper than wide. With the Unet "
        "decoder and ResNet, ResNeXt or DenseNet encoders.",
        json_schema_extra={"unit": "levels"},
    )

    @model_validator(mode="after")
    def _they_work_together(self) -> Self:
        refused = refused_by(self.encoder)
        if self.decoder in refused:
            works = ", ".join(decoder for decoder in get_args(Decoder) if decoder not in refused)
            raise ValueError(f"{self.encoder} does not work with {self.decoder}, but with {works}")
        if self.flat_levels and (self.decoder != "unet" or not self.encoder.startswith(STRIDED)):
            raise ValueError("flat_levels are for the decoder unet with a ResNet, ResNeXt or DenseNet encoder")
        return self

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("encoder.",)

    @property
    def stride(self) -> Stride:
        levels = PSPNET_LEVELS if self.decoder == "pspnet" else LEVELS
        side = 2**levels
        return (2 ** (levels - self.flat_levels), side, side)

    @property
    def smallest(self) -> Stride:
        return (PAN_SMALLEST,) * 3 if self.decoder == "pan" else self.stride


def build(config: SMUNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    """The network a config describes, without pretrained weights. Raises ConfigError for channels it does not take."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library scripts parts of itself as torch no longer likes it
        import segmentation_models_pytorch_3d as smp

    from seglib.models.networks.meta import NumbersOnCPU

    if config.encoder.startswith(COLOUR_ONLY) and inputs != 3:
        raise ConfigError(
            f"{config.encoder} takes 3 channels and there are {inputs}: choose the normalisation “of a pretrained "
            "encoder”, which gives three, or another encoder."
        )
    more = {}
    if config.decoder == "unet":
        more["strides"] = tuple((1 if level < config.flat_levels else 2, 2, 2) for level in range(LEVELS))
    with NumbersOnCPU():
        return getattr(smp, CLASSES[config.decoder])(
            encoder_name=config.encoder, encoder_weights=None, in_channels=inputs, classes=outputs, **more
        )


ARCHITECTURES = (Architecture(SMUNetConfig, build),)
