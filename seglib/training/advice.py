"""Settings to start from, fitted to a data set's sizes so that they can run as they are."""

from collections.abc import Sequence

from seglib.config import DataConfig, LabelScheme, ModelConfig, PatchConfig, RunConfig, UNet2DConfig, UNet3DConfig
from seglib.data.splits import Shape, split_data
from seglib.errors import ConfigError
from seglib.store.datasets import DatasetRow

DEMO_NAME = "Demo cells"
WANTED_3D: Shape = (16, 128, 128)
WANTED_2D: Shape = (1, 256, 256)
DEEPEST = 4


def config_for(dataset: DatasetRow) -> RunConfig:
    """Settings that can run on a data set as they are. Raises ConfigError where it has no labels."""
    labelled = [volume for volume in dataset.volumes if volume.has_labels]
    if not labelled:
        raise ConfigError(f"{dataset.name} has no labels, and training needs them: import it with labels.")
    return first_config(
        dataset.id,
        [volume.shape_zyx for volume in labelled],
        [volume.group or volume.name for volume in labelled],
        labels=dataset.labels,
    )


def first_config(dataset_id: int, shapes: Sequence[Shape], groups: Sequence[str], *, labels: LabelScheme) -> RunConfig:
    """A config whose patch and depth fit every training part of volumes of these shapes (z, y, x).

    labels: several classes, or objects with borders, are each learned; otherwise the foreground is.
    A network without depth is taken where there are fewer than four planes.
    """
    several = len(labels.classes) > 1 or labels.borders is not None
    data = DataConfig(dataset=dataset_id, labels=labels, task="classes" if several else "foreground")
    split = split_data(shapes, groups, data, seed=0)
    room = [min(region.shape[axis] for region in split.training) for axis in range(3)]
    flat = room[0] < 4
    wanted = WANTED_2D if flat else WANTED_3D
    patch = [min(side, have) for side, have in zip(wanted, room, strict=True)]
    limiting = min(patch[1:] if flat else patch)
    # The deepest level keeps at least two voxels, as instance normalisation needs.
    depth = max(2, min(DEEPEST, limiting.bit_length(), max(patch).bit_length() - 1))
    step = 2 ** (depth - 1)
    fitted = [side if flat and axis == 0 else max(step, side // step * step) for axis, side in enumerate(patch)]
    model: ModelConfig = UNet2DConfig(depth=depth) if flat else UNet3DConfig(depth=depth)
    return RunConfig(data=data, model=model, patches=PatchConfig(shape=(fitted[0], fitted[1], fitted[2])))


def with_labels(config: RunConfig, labels: LabelScheme) -> RunConfig:
    """The config with how label values are read, where it does not say so itself."""
    if config.data.labels is not None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"labels": labels})})


def demo_config(dataset_id: int) -> RunConfig:
    """A run of well under a minute on a laptop's CPU, on the demo data."""
    config = RunConfig(
        name="Demo run",
        data=DataConfig(dataset=dataset_id),
        patches=PatchConfig(shape=(16, 64, 64), per_epoch=32),
        model=UNet3DConfig(depth=3, start_channels=8),
    )
    return config.model_copy(update={"length": config.length.model_copy(update={"epochs": 10})})
