"""What weights a network starts with."""

from typing import Annotated, Any, Literal

from pydantic import Field

from seglib.part import Part


class ScratchConfig(Part):
    """From scratch: drawn at random."""

    kind: Literal["scratch"] = "scratch"


def _freeze_epochs() -> Any:
    return Field(
        0,
        ge=0,
        le=10_000,
        title="Freeze the encoder",
        description="For so many epochs the encoder stays as it is and only what follows it learns.",
        json_schema_extra={"unit": "epochs"},
    )


def _encoder_rate() -> Any:
    return Field(
        1.0,
        gt=0,
        le=1,
        title="Encoder learning rate",
        description="Share of the learning rate that the encoder learns with; 0.1 keeps more of what it knows.",
    )


class ImageNetConfig(Part):
    """ImageNet: the encoder as it was trained on photographs; for SM-UNet, downloaded once."""

    kind: Literal["imagenet"] = "imagenet"
    freeze_epochs: int = _freeze_epochs()
    encoder_rate: float = _encoder_rate()


class RunWeightsConfig(Part):
    """From a run: what an earlier run of this workspace learned."""

    kind: Literal["run"] = "run"
    run: int = Field(
        0, ge=0, title="Run", description="A training that has a checkpoint.", json_schema_extra={"widget": "runs"}
    )
    checkpoint: Literal["best", "last"] = Field(
        "best", title="Checkpoint", description="The best one on its validation part, or the last one."
    )
    freeze_epochs: int = _freeze_epochs()
    encoder_rate: float = _encoder_rate()


class FileWeightsConfig(Part):
    """From a file: safetensors, or .pt and .pth, on the server."""

    kind: Literal["file"] = "file"
    path: str = Field(
        "",
        max_length=4096,
        title="File",
        description="Its place on the server, within the folders open to imports. Nothing in it is run; .pt and .pth "
        "are read for their tensors alone, in a process of its own.",
    )
    freeze_epochs: int = _freeze_epochs()
    encoder_rate: float = _encoder_rate()


WeightsConfig = Annotated[
    ScratchConfig | ImageNetConfig | RunWeightsConfig | FileWeightsConfig, Field(discriminator="kind")
]
