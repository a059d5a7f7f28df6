"""WNet3D: clusters instead of labels, with the defaults of CellSeg3D (Achard et al. 2024)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from seglib.errors import ConfigError
from seglib.models.base import Architecture, ModelPart, Stride

if TYPE_CHECKING:
    from torch import nn

DEEPEST = 16


class WNetConfig(ModelPart):
    """WNet3D: learns without labels, by clusters of alike grey values."""

    kind: Literal["wnet"] = "wnet"
    clusters: int = Field(
        2,
        ge=2,
        le=4,
        title="Clusters",
        description="How many kinds of voxels the image is divided into. The foreground is one of them; take more "
        "where something else stands out too.",
    )
    objects: Literal["bright", "dark"] = Field(
        "bright", title="Objects are", description="Which cluster is the foreground: the brightest or the darkest."
    )
    start_channels: int = Field(
        64,
        ge=4,
        le=128,
        title="Start channels",
        description="Of the first of five levels, in both halves. 64 is as published; 16 takes a twelfth of the time.",
    )
    dropout: float = Field(
        0.65, ge=0, lt=1, title="Dropout", description="Share of the features that are left out, by chance."
    )
    similarity: Literal["mean", "neighbours"] = Field(
        "mean",
        title="Alike are",
        description="What the normalised cut compares. Mean: both voxels with the mean of their cluster, as CellSeg3D "
        "does. Neighbours: the voxels with each other, as the cut was first described.",
    )
    intensity_sigma: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Intensity sigma",
        description="Grey values that differ by so much still count as alike; the normalised range is 0 to 100.",
    )
    spatial_sigma: float = Field(
        4.0,
        gt=0,
        le=100,
        title="Spatial sigma",
        description="How fast the likeness of voxels falls with their distance.",
        json_schema_extra={"unit": "voxels"},
    )
    radius: int = Field(
        2, ge=1, le=10, title="Radius", description="Voxels further apart are not compared.",
        json_schema_extra={"unit": "voxels"},
    )  # fmt: skip
    cut_weight: float = Field(0.5, ge=0, le=100, title="Weight of the cut", description="In the sum of both losses.")
    reconstruction_weight: float = Field(
        0.005,
        ge=0,
        le=100,
        title="Weight of the reconstruction",
        description="Of the mean squared error, in grey values from 0 to 100, of the image made from the clusters.",
    )

    @property
    def stride(self) -> Stride:
        return (DEEPEST, DEEPEST, DEEPEST)

    @property
    def needs_labels(self) -> bool:
        return False

    @property
    def encoder_names(self) -> tuple[str, ...]:
        return ("encoder.",)


def build(config: WNetConfig, *, inputs: int, outputs: int, shape: Stride) -> "nn.Module":
    """The network a config describes. Raises ConfigError for more than foreground and background."""
    from seglib.models.networks.wnet import CutPlan, WNet, WNetLosses

    if outputs > 2:
        raise ConfigError("WNet3D tells one kind of object from the background: choose the task Foreground.")
    cut = CutPlan(config.intensity_sigma, config.spatial_sigma, config.radius, config.similarity == "mean")
    return WNet(
        config.start_channels,
        inputs=inputs,
        clusters=config.clusters,
        dropout=config.dropout,
        losses=WNetLosses(cut, config.cut_weight, config.reconstruction_weight),
        bright=config.objects == "bright",
        outputs=outputs,
    )


ARCHITECTURES = (Architecture(WNetConfig, build),)
