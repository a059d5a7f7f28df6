"""Settings of the optimisers and of the learning-rate schedules."""

from typing import Annotated, Literal

from pydantic import Field

from seglib.part import Part


class _Optimiser(Part):
    learning_rate: float = Field(
        1e-3,
        gt=0,
        le=10,
        title="Learning rate",
        description="Step size. Lower it tenfold where the loss jumps or Dice stays at 0.",
        json_schema_extra={"format": "%.2e"},
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Weight decay",
        description="Pulls weights towards zero; a little works against overfitting.",
        json_schema_extra={"format": "%.2e"},
    )


class AdamConfig(_Optimiser):
    """Adam"""

    kind: Literal["adam"] = "adam"


class AdamWConfig(_Optimiser):
    """AdamW: Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(
        1e-2,
        ge=0,
        le=1,
        title="Weight decay",
        description="Pulls weights towards zero; a little works against overfitting.",
        json_schema_extra={"format": "%.2e"},
    )


class SGDConfig(_Optimiser):
    """SGD with Nesterov momentum"""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(
        1e-2,
        gt=0,
        le=10,
        title="Learning rate",
        description="Step size. Lower it tenfold where the loss jumps or Dice stays at 0.",
        json_schema_extra={"format": "%.2e"},
    )
    momentum: float = Field(0.9, gt=0, lt=1, title="Momentum", description="How much of the last step is kept.")


OptimiserConfig = Annotated[AdamConfig | AdamWConfig | SGDConfig, Field(discriminator="kind")]


class CosineConfig(Part):
    """Cosine: falls smoothly to almost zero at the last epoch."""

    kind: Literal["cosine"] = "cosine"
    final_share: float = Field(
        0.01, ge=0, le=1, title="Final share", description="Learning rate at the end, as a share of the first."
    )


class ConstantConfig(Part):
    """Constant learning rate"""

    kind: Literal["constant"] = "constant"


class PlateauConfig(Part):
    """Plateau: lowered when the validation score stops rising."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.1, gt=0, lt=1, title="Factor", description="What the learning rate is multiplied by.")
    patience: int = Field(
        10,
        ge=0,
        le=1000,
        title="Patience",
        description="How many validations without a better score are waited for.",
        json_schema_extra={"unit": "validations"},
    )


ScheduleConfig = Annotated[CosineConfig | ConstantConfig | PlateauConfig, Field(discriminator="kind")]
