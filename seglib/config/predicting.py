"""Settings of predictions: with what, in which tiles, and what is made of the result."""

from typing import Annotated, Literal

from pydantic import Field

from seglib.config.compute import DeviceConfig
from seglib.part import Part

Blending = Literal["gaussian", "halo"]
Variations = Literal["none", "flips", "flips_turns"]
Merging = Literal["mean", "min", "max"]
Uncertainty = Literal["none", "entropy", "disagreement"]
Kept = Literal["classes", "uint8", "float16"]
Side = Annotated[int, Field(ge=0, le=4096)]


class TilesConfig(Part):
    """How a volume is cut into windows."""

    window: tuple[Side, Side, Side] = Field(
        (0, 0, 0),
        title="Window",
        description="Size of the pieces the network sees at once. 0 chooses: the training patch, or larger where the "
        "network gives the same in larger windows, which is faster.",
        json_schema_extra={"unit": "voxels"},
    )
    overlap: float = Field(
        0.25,
        ge=0,
        le=0.75,
        title="Overlap",
        description="Share of the training patch that neighbouring windows share. More is smoother and slower.",
    )
    blending: Blending = Field(
        "gaussian",
        title="Blending",
        description="Gaussian: windows fade into each other. Halo: of each window only the middle is kept, which with "
        "enough overlap is what one pass over everything would give.",
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=256,
        title="Windows at once",
        description="How many windows are computed at once; 0 chooses by the device. Fewer are taken where memory "
        "does not suffice.",
        json_schema_extra={"unit": "windows"},
    )
    skip_empty: bool = Field(
        False,
        title="Skip empty regions",
        description="Leaves windows out in which all voxels are as dark as nothing, such as around a sample. They "
        "become background.",
    )


class EnsembleConfig(Part):
    """What several looks at a volume are made of."""

    runs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        max_length=50,
        title="Further runs",
        description="Runs that predict as well, such as the other folds of a cross-validation: their probabilities "
        "become one. They must have learned the same classes.",
        json_schema_extra={"widget": "runs"},
    )
    variations: Variations = Field(
        "none",
        title="Test-time augmentation",
        description="Predicts flipped and turned copies too and turns the results back: often a little better, and as "
        "many times slower as there are copies.",
    )
    merging: Merging = Field(
        "mean",
        title="Merge by",
        description="What becomes of several probabilities of a voxel: their mean, the smallest (only what all find) "
        "or the largest (what any finds).",
    )
    uncertainty: Uncertainty = Field(
        "none",
        title="Uncertainty",
        description="A layer beside the result. Entropy: how undecided the probabilities are. Disagreement: how far "
        "runs and copies differ, which takes more than one of them.",
    )


class CleaningConfig(Part):
    """What is done to the labels afterwards; it can be changed without predicting again."""

    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (),
        max_length=254,
        title="Thresholds",
        description="A voxel is labelled where its most likely class is above its threshold: one for all classes or "
        "one each. None takes what was best on the run's validation part.",
    )
    smallest: int = Field(
        0,
        ge=0,
        le=10**12,
        title="Smallest object",
        description="Pieces of a class that hang together and have fewer voxels become background.",
        json_schema_extra={"unit": "voxels"},
    )
    holes: int = Field(
        0,
        ge=0,
        le=10**12,
        title="Largest hole to fill",
        description="Background that is enclosed by one class and has at most so many voxels becomes that class.",
        json_schema_extra={"unit": "voxels"},
    )


class PredictConfig(Part):
    """One prediction: a trained run over one volume."""

    version: Literal[2] = 2
    run: int = Field(
        ge=1, title="Run", description="The trained run to predict with.", json_schema_extra={"widget": "run"}
    )
    volume: int = Field(
        ge=1, title="Volume", description="The volume to segment.", json_schema_extra={"widget": "volume"}
    )
    checkpoint: str = Field(
        "best",
        pattern=r"^(best|last|step-[0-9]{7,12})$",
        title="Checkpoint",
        description="Best: of the best validation score, or the last one where the run kept no other. Last: end of the "
        "training. Runs that keep all states have earlier ones, too.",
        json_schema_extra={"widget": "checkpoint"},
    )
    tiles: TilesConfig = TilesConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    cleaning: CleaningConfig = CleaningConfig()
    resample: bool = Field(
        True,
        title="Match voxel size",
        description="A volume of another voxel size than the run was trained on is predicted at the size the run "
        "knows, and the result is brought back to the volume's own grid.",
    )
    keep: Kept = Field(
        "uint8",
        title="Keep probabilities",
        description="uint8: a byte a voxel and class, in steps of 1/255. float16: two bytes, finer. Classes: none are "
        "kept, so that thresholds cannot be changed afterwards.",
    )
    surfaces: bool = Field(
        False,
        title="Measure surfaces",
        description="Where the volume has labels: distances between the borders found and the labelled ones as well.",
    )
    compute: DeviceConfig = DeviceConfig()
