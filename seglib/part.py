"""What all parts of a configuration share."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A frozen part of a configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
