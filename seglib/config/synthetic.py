"""Made-up microscopy with perfect labels: what is made, and of what sizes."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from seglib.part import Part

Edge = Annotated[int, Field(ge=32, le=512)]
Weight = Annotated[int, Field(ge=0, le=100)]


class OpticLobeConfig(Part):
    """Fly optic lobe: fluorescent columns in a hexagonal pattern on a curved layer, as a two-photon microscope sees it.

    Defaults are those published with the 3dsegmentation toolkit; lengths are relative to the distance between columns
    where nothing else is said.
    """

    kind: Literal["optic_lobe"] = "optic_lobe"
    shape: tuple[Edge, Edge, Edge] = Field(
        (128, 128, 128),
        title="Size (z, y, x)",
        description="Of one sample; the geometry fills it whatever its size.",
        json_schema_extra={"unit": "voxels"},
    )
    columns: tuple[Weight, Weight, Weight, Weight] = Field(
        (2, 3, 3, 3),
        title="Empty : A : B : C",
        description="How often a column is empty, or holds a dense cluster (A), few clumps (B) or a ring (C).",
        json_schema_extra={"parts": ["empty", "A", "B", "C"]},
    )
    points: int = Field(
        250, ge=10, le=5000, title="Points a column", description="Fluorescent points of which a cluster is made."
    )
    neurites: int = Field(2, ge=0, le=20, title="Neurites a column", description="Fibres that run into each column.")
    dropped_neurites: float = Field(
        0.3, ge=0, le=1, title="Missing neurites", description="This share of the neurites is not there."
    )
    label_diameter: float = Field(
        0.70, gt=0, le=1, title="Label diameter", description="Of the wide end of the cone that is labelled."
    )
    label_depth: float = Field(
        2.25, gt=0, le=5, title="Label depth", description="How long the cone is that is labelled."
    )
    noise: float = Field(
        0.025, ge=0, le=1, title="Camera noise", description="Standard deviation; the brightest points are 1."
    )

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Self:
        if not any(self.columns):
            raise ValueError("at least one kind of column must be drawn")
        return self


class RingImagesConfig(Part):
    """Rings: 2D images of bright rings, the flat sibling of the columns."""

    kind: Literal["rings"] = "rings"
    side: int = Field(
        128, ge=32, le=2048, title="Side", description="Of the square image.", json_schema_extra={"unit": "px"}
    )
    diameter: float = Field(
        10.0,
        ge=4,
        le=200,
        title="Ring diameter",
        description="About how wide a ring is.",
        json_schema_extra={"unit": "px"},
    )
    threshold: float = Field(
        0.3, gt=0, lt=1, title="Label threshold", description="What is brighter than this without noise is labelled."
    )
    noise: float = Field(
        0.1, ge=0, le=1, title="Noise", description="Standard deviation; the brightest ring is about 1."
    )


SampleConfig = Annotated[OpticLobeConfig | RingImagesConfig, Field(discriminator="kind")]


def _count(value: int, title: str, description: str) -> Any:
    return Field(value, ge=0, le=100_000, title=title, description=description, json_schema_extra={"unit": "samples"})


def _seed(value: int, title: str) -> Any:
    return Field(value, ge=0, le=2**32 - 1, title=title, description="The same seed gives the same samples; 0 too.")


class SyntheticConfig(Part):
    """What is made: which samples, and how many of them to train and to validate."""

    sample: SampleConfig = OpticLobeConfig()
    training: int = _count(2048, "Training samples", "They are called training 0001 and so on.")
    validation: int = _count(
        64, "Validation samples", "They are called validation 0001 and so on; split by name: validation*."
    )
    seed: int = _seed(0, "Training seed")
    validation_seed: int = _seed(9999, "Validation seed")

    @model_validator(mode="after")
    def _parts_differ(self) -> Self:
        if not self.training + self.validation:
            raise ValueError("nothing to make: ask for at least one sample")
        if self.training and self.validation and self.seed == self.validation_seed:
            raise ValueError(
                f"training and validation have the same seed {self.seed}, so that they would be the same samples"
            )
        return self
