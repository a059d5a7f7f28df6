"""TRAILMAP's 3D U-Net (Friedmann et al. 2020, doi:10.1073/pnas.1918465117), the network of Çiçek et al. 2016."""

from typing import TYPE_CHECKING, Literal

from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn


class TrailmapConfig(ModelPart):
    """TRAILMAP: the 3D U-Net of Çiçek et al., 64 to 512 channels, made for axons in cleared brains."""

    kind: Literal["trailmap"] = "trailmap"

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("down.",)

    @property
    def stride(self) -> Stride:
        return (8, 8, 8)


def build(config: TrailmapConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    """The network in its published layout."""
    from seglib.models.networks.trailmap import Trailmap

    return Trailmap(inputs=inputs, outputs=outputs)


ARCHITECTURES = (Architecture(TrailmapConfig, build),)
