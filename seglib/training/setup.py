"""Everything a training needs, built from its config and volumes before the first step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seglib.checkpoints import Checkpoint
from seglib.config import RunConfig
from seglib.data.normalise import Normalisation, measure
from seglib.data.patches import PatchSampler, TrainingPart
from seglib.data.splits import Region, split_data
from seglib.data.targets import learn
from seglib.data.volumes import Volume
from seglib.errors import CheckpointError, ConfigError
from seglib.inference.devices import choose_device, set_threads, use_half
from seglib.inference.predict import Predictor
from seglib.losses import Loss, activation_of, build_loss, outputs_of
from seglib.models import build_model, model_stride
from seglib.training.optim import Schedule, build_optimiser
from seglib.training.preview import PreviewCrop, choose_crop


@dataclass(frozen=True)
class Setup:
    """The parts of one training run. predictor shares `network`, in whatever mode that is."""

    config: RunConfig
    values: tuple[int, ...]
    names: tuple[str, ...]
    device: torch.device
    network: nn.Module
    predictor: Predictor
    loss: Loss
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    sampler: PatchSampler
    validation: tuple[TrainingPart, ...]
    crop: PreviewCrop
    voxel_size_nm: tuple[float, float, float]
    contrast: tuple[float, float]
    notes: tuple[str, ...]
    resumed: Checkpoint | None


def prepare(
    config: RunConfig,
    volumes: Sequence[Volume],
    *,
    resume: Checkpoint | None,
) -> Setup:
    """Reads the volumes and builds network, optimiser and sampler; from `resume` where it is given.

    Raises ConfigError for settings that do not fit the data, CheckpointError where `resume` is of another network.
    """
    set_threads(config.compute)
    device = torch.device(choose_device(config.compute.device))
    training, validation = read_parts(config, volumes)
    names = config.data.scheme.names(config.data.task)
    normalisation = resume.normalisation if resume else measure(part.image for part in training)
    torch.manual_seed(config.length.seed)
    outputs = outputs_of(config.loss, len(names))
    network = build_model(config.model, inputs=volumes[0].channels, outputs=outputs).to(device)
    optimiser = build_optimiser(config.optimiser, network.parameters())
    schedule = Schedule(config.schedule, optimiser, total_steps=config.total_steps)
    if resume:
        _restore(resume, network, optimiser, schedule, device)
    predictor = make_predictor(config, network, normalisation, device, config.compute.precision)
    sampler = PatchSampler(
        training,
        normalisation,
        shape=config.patches.shape,
        foreground_share=config.patches.foreground_share,
        seed=config.length.seed,
    )
    return Setup(
        config=config,
        values=config.data.scheme.values(config.data.task),
        names=names,
        device=device,
        network=network.train(),
        predictor=predictor,
        loss=build_loss(config.loss),
        optimiser=optimiser,
        schedule=schedule,
        sampler=sampler,
        validation=validation,
        crop=choose_crop(validation),
        voxel_size_nm=volumes[0].voxel_size_nm,
        contrast=volumes[0].contrast,
        notes=_notes(config, training, validation, predictor),
        resumed=resume,
    )


def make_predictor(
    config: RunConfig, network: nn.Module, normalisation: Normalisation, device: torch.device, precision: str
) -> Predictor:
    """A run's network with what is needed to apply it."""
    return Predictor(
        network=network,
        normalisation=normalisation,
        activation=activation_of(config.loss),
        stride=model_stride(config.model),
        device=device,
        half=use_half(device, precision),
    )


def read_parts(
    config: RunConfig, volumes: Sequence[Volume]
) -> tuple[tuple[TrainingPart, ...], tuple[TrainingPart, ...]]:
    """Training and validation parts of the volumes, in memory as stored.

    Raises ConfigError where a volume has no labels, or volumes differ in channels.
    """
    for volume in volumes:
        if volume.labels is None:
            raise ConfigError(f"{volume.name} has no labels, and training needs them.")
        if volume.channels != volumes[0].channels:
            raise ConfigError(
                f"{volume.name} has {volume.channels} channel(s) but {volumes[0].name} has {volumes[0].channels}: "
                "all volumes of a data set must have the same."
            )
    shapes = [volume.shape_zyx for volume in volumes]
    split = split_data(shapes, [volume.group or volume.name for volume in volumes], config.data, config.length.seed)

    def part(region: Region) -> TrainingPart:
        volume = volumes[region.volume]
        assert volume.labels is not None
        labels = np.asarray(volume.labels[region.slices])
        image = np.asarray(volume.image[:, *region.slices])
        return TrainingPart(volume.name, image, learn(labels, config.data.scheme, config.data.task))

    return tuple(map(part, split.training)), tuple(map(part, split.validation))


def _restore(
    checkpoint: Checkpoint,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    device: torch.device,
) -> None:
    try:
        network.load_state_dict(checkpoint.network)
        optimiser.load_state_dict(checkpoint.optimiser)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint belongs to another network or optimiser: {error}") from error
    schedule.load_state_dict(checkpoint.schedule)
    torch.set_rng_state(checkpoint.random["cpu"])
    if device.type == "cuda" and "cuda" in checkpoint.random:
        torch.cuda.set_rng_state(checkpoint.random["cuda"], device)


def _notes(
    config: RunConfig,
    training: Sequence[TrainingPart],
    validation: Sequence[TrainingPart],
    predictor: Predictor,
) -> tuple[str, ...]:
    network = predictor.network
    parameters = sum(parameter.numel() for parameter in network.parameters())
    precision = "bfloat16 autocast" if predictor.half else "float32"
    where = f"{predictor.device}, {precision}, {torch.get_num_threads()} CPU threads"

    def voxels(parts: Sequence[TrainingPart]) -> str:
        return f"{sum(part.target.size for part in parts) / 1e6:.2f} million voxels in {len(parts)} part(s)"

    return (
        f"torch {torch.__version__} on {where}.",
        f"{type(network).__name__} with {parameters:,} parameters; {config.steps_per_epoch} steps an epoch.",
        f"Training on {voxels(training)}, validating on {voxels(validation)}.",
    )
