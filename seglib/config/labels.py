"""What label values mean: which are classes, which single objects, which were never annotated.

The numbers stored with a volume stay as they were imported. A LabelScheme says how to read them, so a data set can be
re-labelled without importing again, and a run keeps the scheme it was started with.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seglib.errors import ConfigError
from seglib.part import Part

# What training and metrics leave out, in class ids; stored labels may hold any number.
IGNORE = 255
MOST_CLASSES = 254

LabelKind = Literal["classes", "instances", "none"]
Task = Literal["foreground", "classes"]
Value = Annotated[int, Field(ge=0, lt=2**53)]


class LabelClass(Part):
    """One class: its name, its colour and the label values that count as it; several values are merged."""

    name: str = Field(min_length=1, max_length=80, title="Name")
    colour: str = Field("", pattern="^(#[0-9a-f]{6})?$", title="Colour", description="#rrggbb, or empty for the usual.")
    values: tuple[Value, ...] = Field(min_length=1, title="Label values")


class Borders(Part):
    """A class of borders made from instances, which lets a network of classes keep touching objects apart.

    Ciresan et al. 2012 and Ronneberger et al. 2015 learn such membranes; `planes` is the axon recipe.
    """

    kind: Literal["all", "touching", "planes"] = Field(
        "touching",
        title="Borders",
        description="All: a rim around every object. Touching: only where two objects (nearly) touch. Planes: as "
        "touching, but found in each plane by itself with objects grown first – the axon recipe.",
    )
    width: int = Field(
        1, ge=1, le=20, title="Border width", description="How far a border reaches.", json_schema_extra={"unit": "px"}
    )


class LabelScheme(Part):
    """How the label values of a data set are read.

    kind: `classes` (a value is a kind of thing), `instances` (a value is one object) or `none`.
    classes: for the kind `classes`, in the order of class ids 1, 2, …; a value in none of them is background.
    background: values of instances that are no object.
    ignore: values that mean "not annotated": never trained on, never measured.
    borders: for instances, learn objects and borders as classes 1 and 2 under the task `classes`.
    """

    kind: LabelKind = Field(
        "instances", title="Labels are", description="Classes: a value is a kind of thing. Instances: it is one object."
    )
    classes: tuple[LabelClass, ...] = Field(
        (), max_length=MOST_CLASSES, title="Classes", description="What classes there are and which values they have."
    )
    background: tuple[Value, ...] = Field(
        (0,), max_length=256, title="Background", description="Values of instances that are no object."
    )
    ignore: tuple[Value, ...] = Field(
        (), max_length=256, title="Not annotated", description="Values that are neither learned from nor measured."
    )
    borders: Borders | None = None

    @model_validator(mode="after")
    def _values_are_used_once(self) -> Self:
        used = [value for part in self.classes for value in part.values] + list(self.ignore)
        if self.kind == "instances":
            used += self.background
        twice = sorted({value for value in used if used.count(value) > 1})
        if twice:
            raise ValueError(f"the label value {twice[0]} is used twice; give each value one meaning")
        names = [part.name for part in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name; merge them into one with several values")
        return self

    def names(self, task: Task) -> tuple[str, ...]:
        """Names of the classes 1 … K that a task learns.

        Raises ConfigError where the labels are not classes and the task asks for them.
        """
        if task == "foreground":
            return ("foreground",)
        if self.kind == "instances" and self.borders:
            return ("object", "border")
        if self.kind != "classes":
            what = "ids of single objects without borders" if self.kind == "instances" else "missing"
            raise ConfigError(f"The labels of this data set are {what}, not classes: choose the task Foreground.")
        if not self.classes:
            raise ConfigError("No label value is a class: name at least one under Labels on the Datasets page.")
        return tuple(part.name for part in self.classes)

    def values(self, task: Task) -> tuple[int, ...]:
        """The number that stands for each of these classes in predictions: the smallest of its label values.

        They are counted from 1 where a value does not fit into 16 bits, as the codes of colours do not.
        """
        if task == "classes" and self.kind == "classes":
            smallest = tuple(min(part.values) for part in self.classes)
            if max(smallest, default=0) < 2**16 and 0 not in smallest:
                return smallest
        return tuple(range(1, len(self.names(task)) + 1))

    def colours(self, task: Task) -> tuple[str, ...]:
        """Chosen colours (#rrggbb) of the same classes, empty where none was chosen."""
        if task == "classes" and self.kind == "classes":
            return tuple(part.colour for part in self.classes)
        return ("",) * len(self.names(task))


def scheme_for(kind: LabelKind, values: Sequence[int]) -> LabelScheme:
    """The plainest scheme for labels with these values (background 0 may be among them): a class a value."""
    if kind != "classes":
        return LabelScheme(kind=kind)
    foreground = sorted(set(values) - {0})
    return LabelScheme(
        kind="classes", classes=tuple(LabelClass(name=f"class {value}", values=(value,)) for value in foreground)
    )
