"""Which part of the data trains, which one judges while it trains, and which one is kept for the end."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from seglib.part import Part

_PRESETS: Any = {"90/10": 0.1, "80/20": 0.2}
Axis = Literal["auto", "z", "y", "x"]


def _validation_share() -> Any:
    return Field(
        0.2,
        ge=0.02,
        le=0.5,
        title="Validation share",
        description="How much of the data is kept for validation. Training never sees it; the best checkpoint is "
        "chosen on it.",
        json_schema_extra={"presets": _PRESETS},
    )


def _test_share() -> Any:
    return Field(
        0.0,
        ge=0,
        le=0.5,
        title="Test share",
        description="How much is kept for the end. Neither training nor the choice of the best checkpoint sees it.",
    )


def _axis() -> Any:
    return Field(
        "auto",
        title="Block axis",
        description="Along which axis a block is cut off for validation. Auto takes the longest one.",
    )


class AutoSplitConfig(Part):
    """Auto: by volume where there are at least four, otherwise a block of each."""

    kind: Literal["auto"] = "auto"
    validation_share: float = _validation_share()
    test_share: float = _test_share()
    axis: Axis = _axis()


class VolumeSplitConfig(Part):
    """By volume: whole volumes, drawn by chance; those of one group stay together."""

    kind: Literal["volumes"] = "volumes"
    validation_share: float = _validation_share()
    test_share: float = _test_share()


class GroupSplitConfig(Part):
    """By name: groups, folders or volumes whose name fits a pattern."""

    kind: Literal["groups"] = "groups"
    validation: str = Field(
        "*09, *10, *19, *20",
        max_length=1000,
        title="Validation is",
        description="Patterns, separated by commas; * stands for any text. A volume fits by its group, by its name or "
        "by a folder in its name. “*09, *10, *19, *20” are the positions whose folder ends so.",
    )
    test: str = Field(
        "",
        max_length=1000,
        title="Test is",
        description="Patterns of what is kept for the end; empty for nothing.",
    )


class BlockSplitConfig(Part):
    """By block: the end of every volume along one axis."""

    kind: Literal["block"] = "block"
    validation_share: float = _validation_share()
    test_share: float = _test_share()
    axis: Axis = _axis()
    gap: int = Field(
        0,
        ge=0,
        le=1024,
        title="Gap",
        description="Voxels left out between the parts, as neighbours look alike.",
        json_schema_extra={"unit": "voxels"},
    )


class HandSplitConfig(Part):
    """By hand: you name the volumes."""

    kind: Literal["hand"] = "hand"
    validation: tuple[str, ...] = Field(
        (),
        max_length=100_000,
        title="Validation is",
        description="Volumes that only judge.",
        json_schema_extra={"widget": "volumes"},
    )
    test: tuple[str, ...] = Field(
        (),
        max_length=100_000,
        title="Test is",
        description="Volumes kept for the end.",
        json_schema_extra={"widget": "volumes"},
    )

    @model_validator(mode="after")
    def _parts_are_apart(self) -> Self:
        if both := set(self.validation) & set(self.test):
            raise ValueError(f"{min(both)} is in validation and in test; a volume can be in one of them only")
        return self


class FoldSplitConfig(Part):
    """Cross-validation: one of k folds of the volumes judges."""

    kind: Literal["folds"] = "folds"
    folds: int = Field(
        5, ge=2, le=50, title="Folds", description="Into how many folds the volumes, or their groups, are divided."
    )
    fold: int = Field(
        1, ge=1, le=50, title="This fold judges", description="Start one run for each fold; the others train."
    )
    test_share: float = _test_share()

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold > self.folds:
            raise ValueError(f"fold {self.fold} is not one of the {self.folds} folds")
        return self


SplitConfig = Annotated[
    AutoSplitConfig | VolumeSplitConfig | GroupSplitConfig | BlockSplitConfig | HandSplitConfig | FoldSplitConfig,
    Field(discriminator="kind"),
]
