"""Everything a training needs, built from its config and volumes before the first step."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from seglib.checkpoints import Checkpoint
from seglib.config import ModelConfig, RunConfig, ScratchConfig
from seglib.data.augment import Augmentation, plan_augmentation
from seglib.data.normalise import Normalisation, measure
from seglib.data.parts import TrainingPart, open_parts
from seglib.data.patches import Extent, PatchSampler, fitting_patch
from seglib.data.splits import Member, Shape, split_data
from seglib.data.volumes import Volume
from seglib.errors import CheckpointError, ConfigError
from seglib.inference.devices import choose_device, half_type, set_threads, use_deterministic
from seglib.inference.predict import Predictor
from seglib.losses import Loss, activation_of, build_loss, needs_shares, outputs_of
from seglib.models import build_model, model_stride
from seglib.models.networks.weights import load_into
from seglib.training.arrangement import arrange, trial_of
from seglib.training.averaging import WeightAverage
from seglib.training.optim import Schedule, build_optimiser
from seglib.training.preview import PreviewCrop, choose_crop
from seglib.training.ranks import Ranks

SHARE_OF_FREE = 0.5
READERS = 4
NEEDS_LABELS = "this network needs them: import it with labels, or choose WNet3D, which learns without."


@dataclass(frozen=True)
class Setup:
    """The parts of one training run. predictor shares `network`, in whatever mode that is.

    learner: what a batch goes through, the network itself or what it was compiled to; layout: of images in memory.
    average: of the network's weights, where one is kept; the predictor then has its network instead.
    augmentation: None where patches stay as they are; readers: threads that read patches ahead.
    encoder: weights of the network's encoder, which may be frozen at first.
    ranks: which process of the run this is, where it has several.
    """

    config: RunConfig
    values: tuple[int, ...]
    names: tuple[str, ...]
    device: torch.device
    network: nn.Module
    learner: nn.Module
    layout: torch.memory_format
    average: WeightAverage | None
    predictor: Predictor
    loss: Loss
    scaler: torch.amp.GradScaler
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    sampler: PatchSampler
    augmentation: Augmentation | None
    readers: int
    validation: tuple[TrainingPart, ...]
    crop: PreviewCrop
    voxel_size_nm: tuple[float, float, float]
    contrast: tuple[float, float]
    notes: tuple[str, ...]
    encoder: tuple[nn.Parameter, ...]
    ranks: Ranks
    resumed: Checkpoint | None

    @property
    def patches_per_step(self) -> int:
        """Patches the network learns from at a step."""
        return patches_per_step(self.config)

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch; the last one is a full batch too."""
        return steps_per_epoch(self.config, self.sampler.per_epoch)

    @property
    def total_steps(self) -> int:
        return total_steps(self.config, self.sampler.per_epoch)


def patches_per_step(config: RunConfig) -> int:
    """Patches that one improvement of the network is made from."""
    return config.patches.batch_size * config.patches.accumulation * config.compute.gpus


def steps_per_epoch(config: RunConfig, patches: int) -> int:
    """Steps of an epoch of so many patches."""
    return -(-patches // patches_per_step(config))


def total_steps(config: RunConfig, patches: int) -> int:
    """Steps of a whole run. patches: of an epoch."""
    return config.length.iterations or steps_per_epoch(config, patches) * config.length.epochs


def prepare(
    config: RunConfig,
    volumes: Sequence[Volume],
    *,
    resume: Checkpoint | None,
    weights: Mapping[str, Tensor] | None = None,
    ranks: Ranks | None = None,
) -> Setup:
    """Reads the volumes and builds network, optimiser and sampler; from `resume` where it is given.

    weights: tensors by name that the network starts with, as far as they fit; not looked at on `resume`.
    ranks: which process of the run this is; alone where it is not said.

    Raises ConfigError for settings that do not fit the data, CheckpointError where `resume` is of another network.
    """
    set_threads(config.compute)
    device = torch.device(choose_device(config.compute.device))
    use_deterministic(device, config.compute.deterministic)
    training, validation = read_parts(config, volumes)
    names = class_names(config)
    normalisation = resume.normalisation if resume else measure([p.image for p in training], config.normalisation)
    sampler, augmentation = plan_drawing(config, training, normalisation, volumes[0])
    ranks, steps = ranks or Ranks(), total_steps(config, sampler.per_epoch)
    network, taken = _network(config, sampler.shape, (normalisation.channels, len(names)), None if resume else weights)
    learning = _learning(config, network.to(device), steps)
    if resume:
        _restore(resume, learning, device)
    ranks.copy_network(network)
    shown = learning.average.network if learning.average else network
    predictor = make_predictor(
        config, shown, normalisation, classes=len(names), device=device, precision=config.compute.precision
    )
    shares = sampler.class_shares(len(names)) if needs_shares(config.loss) else None
    loss = build_loss(config.loss, shares=shares)
    trial = trial_of(predictor, loss, config, sampler.shape)
    arrangement = arrange(network.train(), config, resume, trial=trial, steps=steps)
    return Setup(
        config=config,
        values=config.data.scheme.values(config.data.task),
        names=names,
        device=device,
        **vars(learning),
        learner=arrangement.learner,
        layout=arrangement.layout,
        predictor=predictor,
        loss=loss,
        sampler=sampler,
        augmentation=augmentation,
        readers=_readers(config, training),
        validation=validation,
        crop=choose_crop(validation),
        voxel_size_nm=volumes[0].voxel_size_nm,
        contrast=volumes[0].contrast,
        notes=(*_notes(config, training, validation, predictor, sampler), *taken, *arrangement.notes),
        ranks=ranks,
        resumed=resume,
    )


def make_predictor(
    config: RunConfig,
    network: nn.Module,
    normalisation: Normalisation,
    *,
    classes: int,
    device: torch.device,
    precision: str,
) -> Predictor:
    """A run's network with what is needed to apply it. classes: foreground classes it tells apart."""
    return Predictor(
        network=network,
        normalisation=normalisation,
        activation=activation_of(config.loss),
        stride=model_stride(config.model),
        classes=classes,
        device=device,
        half=half_type(device, precision),
    )


def class_names(config: RunConfig) -> tuple[str, ...]:
    """Names of the classes 1 … K a run learns. Raises ConfigError where its network cannot learn so many."""
    names = config.data.scheme.names(config.data.task)
    if len(names) > 1 and not config.model.needs_labels:
        raise ConfigError("WNet3D tells one kind of object from the background: choose the task Foreground.")
    return names


def read_parts(
    config: RunConfig, volumes: Sequence[Volume]
) -> tuple[tuple[TrainingPart, ...], tuple[TrainingPart, ...]]:
    """Training and validation parts of the volumes, in memory as far as the config allows. The test part stays closed.

    Raises ConfigError where a volume has no labels, or volumes differ in channels.
    """
    for volume in volumes:
        if volume.labels is None and config.model.needs_labels:
            raise ConfigError(f"{volume.name} has no labels, and {NEEDS_LABELS}")
        if volume.channels != volumes[0].channels:
            raise ConfigError(
                f"{volume.name} has {volume.channels} channel(s) but {volumes[0].name} has {volumes[0].channels}: "
                "all volumes of a data set must have the same."
            )
    members = [Member(volume.name, volume.shape_zyx, volume.group) for volume in volumes]
    split = split_data(members, config.split, config.length.seed)
    memory, scheme, task = memory_for_volumes(config), config.data.scheme, config.data.task
    # What needs no labels does not see them while it learns.
    learned = volumes if config.model.needs_labels else [replace(volume, labels=None) for volume in volumes]
    training, used = open_parts(learned, split.training, scheme=scheme, task=task, memory_bytes=memory)
    validation, _ = open_parts(volumes, split.validation, scheme=scheme, task=task, memory_bytes=memory - used)
    return training, validation


def plan_drawing(
    config: RunConfig, training: Sequence[TrainingPart], normalisation: Normalisation, volume: Volume
) -> tuple[PatchSampler, Augmentation | None]:
    """What draws patches of the training parts, and what varies them; volume: one of those they are from."""
    stride = model_stride(config.model)
    shape = fitting_patch(config.patches.shape, [part.shape for part in training], stride)
    augmentation = plan_augmentation(config.augmentation, shape, volume.voxel_size_nm)
    if augmentation and config.sampling.kind == "whole":
        # A whole volume has nothing around it; and its shape is its own.
        augmentation = replace(augmentation, reach=(0, 0, 0))
    sampler = PatchSampler(
        training,
        normalisation,
        config.sampling,
        Extent(shape, stride, augmentation.reach if augmentation else (0, 0, 0)),
        seed=config.length.seed,
        anywhere=not config.model.needs_labels,
    )
    return sampler, augmentation


def memory_for_volumes(config: RunConfig) -> int:
    """How many bytes of volumes may be kept in memory."""
    if config.compute.memory_gb:
        return int(config.compute.memory_gb * 2**30)
    return int(SHARE_OF_FREE * psutil.virtual_memory().available)


def encoder_of(config: ModelConfig, network: nn.Module) -> tuple[nn.Parameter, ...]:
    """The weights of a network's encoder; none where the architecture has no encoder of its own."""
    wrappers = ("", "network.", "network.network.")
    starts = tuple(f"{wrapper}{start}" for start in config.encoder_names for wrapper in wrappers)
    return tuple(weight for name, weight in network.named_parameters() if starts and name.startswith(starts))


def _groups(config: RunConfig, network: nn.Module, encoder: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """What learns with which rate. Raises ConfigError where an encoder is asked for that there is not."""
    weights = config.weights
    if isinstance(weights, ScratchConfig) or (weights.encoder_rate == 1 and not weights.freeze_epochs):
        return [{"params": list(network.parameters())}]
    if not encoder:
        raise ConfigError(
            "This network has no encoder of its own: set the encoder's learning rate to 1 and freeze it for 0 epochs."
        )
    inside = {id(weight) for weight in encoder}
    rest = [weight for weight in network.parameters() if id(weight) not in inside]
    rate = config.optimiser.learning_rate * weights.encoder_rate
    return [{"params": rest}, {"params": list(encoder), "lr": rate}]


@dataclass(frozen=True)
class Learning:
    """What changes while a network learns."""

    network: nn.Module
    encoder: tuple[nn.Parameter, ...]
    average: WeightAverage | None
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler


def _network(
    config: RunConfig, shape: Shape, channels: tuple[int, int], weights: Mapping[str, Tensor] | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network of a run, on the CPU, and what there is to say of the weights it starts with.

    shape: of the patches; channels: of the images, and classes to tell apart.
    Raises ConfigError where none of the weights fits it.
    """
    inputs, classes = channels
    torch.manual_seed(config.length.seed)
    network = build_model(config.model, inputs=inputs, outputs=outputs_of(config.loss, classes), shape=shape)
    if weights is None:
        return network, ()
    taken = load_into(network, weights)
    if not taken.kernels:
        raise ConfigError("None of the weights fits this network: they are of another one.")
    return network, (taken.text,)


def _learning(config: RunConfig, network: nn.Module, steps: int) -> Learning:
    """What a network learns by, at its beginning. steps: of the whole run."""
    encoder, device = encoder_of(config.model, network), next(network.parameters()).device
    optimiser = build_optimiser(config.optimiser, _groups(config, network, encoder))
    return Learning(
        network=network,
        encoder=encoder,
        average=WeightAverage(network, config.optimiser.average) if config.optimiser.average else None,
        optimiser=optimiser,
        schedule=Schedule(config.schedule, optimiser, total_steps=steps),
        scaler=torch.amp.GradScaler(device.type, enabled=half_type(device, config.compute.precision) is torch.float16),
    )


def _restore(checkpoint: Checkpoint, learning: Learning, device: torch.device) -> None:
    """Brings everything that learns to where a checkpoint left it."""
    partial = checkpoint.partial
    try:
        learning.network.load_state_dict(checkpoint.learning or checkpoint.network)
        learning.optimiser.load_state_dict(checkpoint.optimiser)
        if learning.average:
            state = {"network": checkpoint.network, "updates": partial.get("averaged", 0)}
            learning.average.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint belongs to another network or optimiser: {error}") from error
    learning.schedule.load_state_dict(checkpoint.schedule)
    if partial.get("scaler") and learning.scaler.is_enabled():
        learning.scaler.load_state_dict(partial["scaler"])
    torch.set_rng_state(checkpoint.random["cpu"])
    if device.type == "cuda" and "cuda" in checkpoint.random:
        torch.cuda.set_rng_state(checkpoint.random["cuda"], device)


def _readers(config: RunConfig, training: Sequence[TrainingPart]) -> int:
    if config.compute.readers:
        return config.compute.readers
    return 1 if all(part.in_memory for part in training) else min(READERS, os.cpu_count() or 1)


def _notes(
    config: RunConfig,
    training: Sequence[TrainingPart],
    validation: Sequence[TrainingPart],
    predictor: Predictor,
    sampler: PatchSampler,
) -> tuple[str, ...]:
    parameters = sum(parameter.numel() for parameter in predictor.network.parameters())
    precision = {torch.bfloat16: "bfloat16 autocast", torch.float16: "float16 autocast", None: "float32"}[
        predictor.half
    ]
    where = f"{predictor.device}, {precision}, {torch.get_num_threads()} CPU threads"
    steps = steps_per_epoch(config, sampler.per_epoch)
    notes = [
        f"torch {torch.__version__} on {where}.",
        f"{title_of(config.model)} with {parameters:,} parameters; {steps} steps an epoch.",
        f"Training on {_voxels(training)}, validating on {_voxels(validation)}.",
    ]
    if not isinstance(config.weights, ScratchConfig) and config.weights.freeze_epochs:
        notes.append(f"The encoder does not learn in the first {config.weights.freeze_epochs} epoch(s).")
    on_disk = [part for part in (*training, *validation) if not part.in_memory]
    if on_disk:
        notes.append(f"{_voxels(on_disk)} are more than is kept in memory: read from disk as they are needed.")
    shape = sampler.shape
    if config.sampling.kind != "whole" and shape != config.patches.shape:
        notes.append(f"No training part is larger than {_sizes(shape)} (z × y × x): patches are that large.")
    return tuple(notes)


def title_of(model: ModelConfig) -> str:
    """What an architecture is called in the form."""
    return (type(model).__doc__ or model.kind).split(":")[0].strip()


def _voxels(parts: Sequence[TrainingPart]) -> str:
    return f"{sum(part.target.size for part in parts) / 1e6:.2f} million voxels in {len(parts)} part(s)"


def _sizes(shape: Shape) -> str:
    return " × ".join(map(str, shape))
