"""Settings of the losses that networks learn by.

Losses differ in how classes are decided: each by itself (a sigmoid an output; background is what no class claims, and
a voxel may be of several classes) or all against each other and the background (a softmax). Some losses do either.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from seglib.part import Part

Activation = Literal["sigmoid", "softmax"]
Decision = Literal["each_by_itself", "compete"]
Weight = Annotated[float, Field(gt=0, le=1e6)]
ClassWeights = Literal["equal", "by_frequency"] | Annotated[tuple[Weight, ...], Field(min_length=1, max_length=254)]


def _smooth(value: float = 1.0) -> Any:
    return Field(
        value,
        ge=0,
        le=100,
        title="Smoothing",
        description="Added above and below the line of the overlap; keeps patches without the class calm.",
    )


def _decision() -> Any:
    return Field(
        "each_by_itself",
        title="Classes",
        description="Each by itself: one yes or no a class; background is the rest. Compete: every voxel is exactly "
        "one class or background, and the most likely wins.",
    )


def _class_weights() -> Any:
    return Field(
        "equal",
        title="Class weights",
        description="How much each class counts. By frequency: rare classes count more, as often as they are rarer in "
        "the training part (at most 100 times). By hand: one number a class, in their order; background counts 1.",
    )


def _dice_share(rest: str) -> Any:
    return Field(0.5, ge=0, le=1, title="Dice weight", description=f"Weight of Dice; {rest} gets the rest, 1 − this.")


def _focus() -> Any:
    return Field(
        2.0,
        ge=0,
        le=10,
        title="Focus (gamma)",
        description="How strongly voxels that are right already are left aside; 0 leaves none aside, 2 is usual.",
    )


def _foreground_weight() -> Any:
    return Field(
        1.0,
        gt=0,
        le=1000,
        title="Foreground weight",
        description="How much more a missed foreground voxel counts than a false one.",
    )


def _label_smoothing() -> Any:
    return Field(0.0, ge=0, le=0.5, title="Label smoothing", description="Doubt in the labels; 0 believes them fully.")


class DiceBCELossConfig(Part):
    """Dice + BCE: overlap with steady gradients; a good first choice."""

    kind: Literal["dice_bce"] = "dice_bce"
    dice_weight: float = _dice_share("BCE")
    class_weights: ClassWeights = _class_weights()
    smooth: float = _smooth()


class DiceLossConfig(Part):
    """Dice: overlap of prediction and label."""

    kind: Literal["dice"] = "dice"
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


class BCELossConfig(Part):
    """BCE: binary cross-entropy per voxel."""

    kind: Literal["bce"] = "bce"
    positive_weight: float = _foreground_weight()
    class_weights: ClassWeights = _class_weights()


class WeightedBCELossConfig(Part):
    """Balanced BCE: foreground counts as much as background, however rare it is in the training part."""

    kind: Literal["weighted_bce"] = "weighted_bce"


class DiceCELossConfig(Part):
    """Dice + cross-entropy: overlap with steady gradients for classes that exclude each other."""

    kind: Literal["dice_ce"] = "dice_ce"
    dice_weight: float = _dice_share("cross-entropy")
    class_weights: ClassWeights = _class_weights()
    label_smoothing: float = _label_smoothing()
    smooth: float = _smooth()


class CrossEntropyLossConfig(Part):
    """Cross-entropy: every voxel belongs to exactly one class."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: ClassWeights = _class_weights()
    label_smoothing: float = _label_smoothing()


class GeneralisedDiceLossConfig(Part):
    """Generalised Dice: overlap over all classes, small ones counting more."""

    kind: Literal["generalised_dice"] = "generalised_dice"
    weighting: Literal["square", "simple"] = Field(
        "square",
        title="Small classes",
        description="What a class is divided by in each batch: square, its volume squared, as published; simple, its "
        "volume, which is calmer.",
    )
    classes: Decision = _decision()
    smooth: float = _smooth()


class FocalLossConfig(Part):
    """Focal: BCE that looks at the voxels still wrong; for rare, hard objects."""

    kind: Literal["focal"] = "focal"
    gamma: float = _focus()
    positive_weight: float = _foreground_weight()
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()


class CategoricalFocalLossConfig(Part):
    """Categorical focal: cross-entropy that looks at the voxels still wrong."""

    kind: Literal["categorical_focal"] = "categorical_focal"
    gamma: float = _focus()
    alpha: float = Field(0.25, gt=0, le=1, title="Alpha", description="What the whole loss is multiplied by.")
    class_weights: ClassWeights = _class_weights()


class DiceFocalLossConfig(Part):
    """Dice + focal: overlap, and the voxels still wrong."""

    kind: Literal["dice_focal"] = "dice_focal"
    dice_weight: float = _dice_share("focal")
    gamma: float = _focus()
    positive_weight: float = _foreground_weight()
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


class DiceCategoricalFocalLossConfig(Part):
    """Dice + categorical focal: the axon recipe, which counts background as a class."""

    kind: Literal["dice_categorical_focal"] = "dice_categorical_focal"
    jaccard: bool = Field(
        False, title="Also Jaccard", description="Adds the Jaccard loss, as the recipe's own code did."
    )
    gamma: float = _focus()
    alpha: float = Field(0.25, gt=0, le=1, title="Alpha", description="What the focal part is multiplied by.")
    class_weights: ClassWeights = _class_weights()
    smooth: float = _smooth(1e-5)


class TverskyLossConfig(Part):
    """Tversky: Dice that weighs misses and false alarms differently."""

    kind: Literal["tversky"] = "tversky"
    alpha: float = Field(
        0.3,
        ge=0,
        le=10,
        title="False alarms (alpha)",
        description="Weight of voxels wrongly marked. 0.5 for both is Dice; a smaller one marks more.",
    )
    beta: float = Field(
        0.7,
        ge=0,
        le=10,
        title="Misses (beta)",
        description="Weight of missed voxels; a larger one marks more.",
    )
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


class FocalTverskyLossConfig(Part):
    """Focal Tversky: Tversky that goes on improving what is nearly right; for small structures."""

    kind: Literal["focal_tversky"] = "focal_tversky"
    alpha: float = Field(0.3, ge=0, le=10, title="False alarms (alpha)", description="Weight of voxels wrongly marked.")
    beta: float = Field(0.7, ge=0, le=10, title="Misses (beta)", description="Weight of voxels that were missed.")
    gamma: float = Field(
        4 / 3,
        ge=1,
        le=3,
        title="Focus (gamma)",
        description="The loss is raised to 1 / this: 1 is Tversky; more goes on improving what nearly overlaps.",
    )
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


class JaccardLossConfig(Part):
    """Jaccard: overlap as intersection over union (IoU); stricter than Dice."""

    kind: Literal["jaccard"] = "jaccard"
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


class LovaszLossConfig(Part):
    """Lovász: the IoU that is reported, made learnable; best to finish a training with."""

    kind: Literal["lovasz"] = "lovasz"
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()


class BoundaryDiceLossConfig(Part):
    """Boundary Dice: what is wrongly marked just outside an object counts more; keeps neighbours apart."""

    kind: Literal["boundary_dice"] = "boundary_dice"
    weight: float = Field(
        5.0,
        ge=1,
        le=1000,
        title="Boundary weight",
        description="How often a voxel in the ring around an object counts; 1 is plain Dice.",
    )
    thickness: int = Field(
        1,
        ge=1,
        le=20,
        title="Boundary thickness",
        description="How far the ring reaches out from the object.",
        json_schema_extra={"unit": "px"},
    )
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


class ClDiceLossConfig(Part):
    """Dice + clDice: keeps thin structures in one piece, such as vessels and neurites."""

    kind: Literal["cldice"] = "cldice"
    dice_weight: float = _dice_share("clDice")
    thinning: int = Field(
        3,
        ge=1,
        le=50,
        title="Thinning steps",
        description="At least the radius of the thickest structure; each step costs time and memory.",
        json_schema_extra={"unit": "px"},
    )
    class_weights: ClassWeights = _class_weights()
    classes: Decision = _decision()
    smooth: float = _smooth()


AnyLoss = (
    DiceBCELossConfig
    | DiceLossConfig
    | BCELossConfig
    | WeightedBCELossConfig
    | DiceCELossConfig
    | CrossEntropyLossConfig
    | GeneralisedDiceLossConfig
    | FocalLossConfig
    | CategoricalFocalLossConfig
    | DiceFocalLossConfig
    | DiceCategoricalFocalLossConfig
    | TverskyLossConfig
    | FocalTverskyLossConfig
    | JaccardLossConfig
    | LovaszLossConfig
    | BoundaryDiceLossConfig
    | ClDiceLossConfig
)


class WeightedLossConfig(Part):
    """One loss of a sum."""

    weight: float = Field(1.0, gt=0, le=1000, title="Weight", description="What this loss is multiplied by.")
    loss: Annotated[AnyLoss, Field(discriminator="kind")] = Field(
        DiceLossConfig(), title="Loss", description="What is added."
    )


class SumLossConfig(Part):
    """Sum: several losses, each with a weight."""

    kind: Literal["sum"] = "sum"
    parts: tuple[WeightedLossConfig, ...] = Field(
        (WeightedLossConfig(), WeightedLossConfig(loss=FocalLossConfig())),
        min_length=1,
        max_length=8,
        title="Losses",
        description="The losses that are added up. All must decide classes in the same way.",
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        first, *others = self.parts
        for number, part in enumerate(others, 2):
            if activation_of(part.loss) != activation_of(first.loss):
                raise ValueError(
                    f"losses that are added must decide classes in the same way, but loss 1 ({first.loss.kind}) "
                    f"{_said(first.loss)} and loss {number} ({part.loss.kind}) {_said(part.loss)}; change one of them"
                )
        return self


LossConfig = Annotated[AnyLoss | SumLossConfig, Field(discriminator="kind")]


def activation_of(config: LossConfig) -> Activation:
    """How the outputs trained with this loss become probabilities."""
    match config:
        case SumLossConfig(parts=parts):
            return activation_of(parts[0].loss)
        case BCELossConfig() | WeightedBCELossConfig() | DiceBCELossConfig():
            return "sigmoid"
        case (
            CrossEntropyLossConfig()
            | CategoricalFocalLossConfig()
            | DiceCELossConfig()
            | DiceCategoricalFocalLossConfig()
        ):
            return "softmax"
        case _:
            return "softmax" if config.classes == "compete" else "sigmoid"


def needs_shares(config: LossConfig) -> bool:
    """Whether the loss weighs by how frequent classes are in the training part."""
    if isinstance(config, SumLossConfig):
        return any(needs_shares(part.loss) for part in config.parts)
    return config.kind == "weighted_bce" or getattr(config, "class_weights", "equal") == "by_frequency"


def _said(config: AnyLoss) -> str:
    return "decides each by itself" if activation_of(config) == "sigmoid" else "lets them compete"
