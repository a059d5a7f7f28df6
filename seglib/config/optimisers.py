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
    clip: float = Field(
        0.0,
        ge=0,
        le=1e6,
        title="Gradient at most",
        description="Longer gradients are shortened to this length, so that one odd batch cannot throw the network "
        "off; 0 leaves them as they are.",
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Average of the weights",
        description="Validates and predicts with a running average of the weights, which is steadier than the weights "
        "themselves: how much of it is kept at each step, such as 0.999; 0 turns it off.",
        json_schema_extra={"format": "%.4f"},
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


class RMSpropConfig(_Optimiser):
    """RMSprop: steps scaled by the recent size of each gradient."""

    kind: Literal["rmsprop"] = "rmsprop"
    smoothing: float = Field(
        0.99,
        gt=0,
        lt=1,
        title="Smoothing",
        description="How much of the recent size of gradients is kept at each step.",
    )


OptimiserConfig = Annotated[AdamConfig | AdamWConfig | SGDConfig | RMSpropConfig, Field(discriminator="kind")]


class _Schedule(Part):
    warm_up: int = Field(
        0,
        ge=0,
        le=1_000_000,
        title="Warm-up",
        description="The learning rate rises evenly from near 0 over so many steps; 0 starts with all of it.",
        json_schema_extra={"unit": "steps"},
    )


class CosineConfig(_Schedule):
    """Cosine: falls smoothly to almost zero at the last epoch."""

    kind: Literal["cosine"] = "cosine"
    final_share: float = Field(
        0.01, ge=0, le=1, title="Final share", description="Learning rate at the end, as a share of the first."
    )


class PolynomialConfig(_Schedule):
    """Polynomial: falls to zero, at a nearly even pace."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(
        0.9,
        gt=0,
        le=10,
        title="Power",
        description="Of the share of the run that is left. 1 falls evenly, more falls faster at first.",
    )


class OneCycleConfig(_Schedule):
    """One cycle: rises to the learning rate, then falls far below where it began."""

    kind: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(0.3, gt=0, lt=1, title="Share of the rise", description="How much of the run it rises for.")
    start_share: float = Field(
        0.04, gt=0, le=1, title="Share at the start", description="Learning rate at the start, as a share of the peak."
    )
    end_share: float = Field(
        0.0001,
        ge=0,
        le=1,
        title="Share at the end",
        description="Learning rate at the end, as a share of the peak.",
        json_schema_extra={"format": "%.2e"},
    )


class ConstantConfig(_Schedule):
    """Constant learning rate"""

    kind: Literal["constant"] = "constant"


class PlateauConfig(_Schedule):
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


ScheduleConfig = Annotated[
    CosineConfig | PolynomialConfig | OneCycleConfig | ConstantConfig | PlateauConfig, Field(discriminator="kind")
]
