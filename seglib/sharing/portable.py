"""A trained network as one module from grey values to probabilities, which needs nothing else of this program."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seglib.checkpoints import Checkpoint
from seglib.data.normalise import Normalisation
from seglib.errors import CheckpointError, SeglibError
from seglib.inference.predict import foreground_probabilities
from seglib.losses import Activation, activation_of, outputs_of
from seglib.models import build_model, is_flat, model_stride
from seglib.models.networks.convolution import SafeConv3d

INPUT, OUTPUT = "image", "probabilities"
# How far a file's probabilities may be from the network's own: rounding in float32 stays well below.
TOLERANCE = 1e-4
# What torch's exporters raise where they cannot follow a network; FixedSize's ConfigError is a ValueError.
EXPORT_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


class Probabilities(nn.Module):
    """Images (N, C, *space) to probabilities (N, K, *space), 0–1, one channel a foreground class; all float32.

    normalisation: applied first, so that images are grey values as they were imported; without one, images are what
    the network takes. planes: space is (Y, X) instead of (Z, Y, X).
    """

    sources: Tensor
    centre: Tensor
    scale: Tensor
    clip: Tensor

    def __init__(
        self, network: nn.Module, normalisation: Normalisation | None, activation: Activation, *, planes: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.activation: Activation = activation
        self.planes = planes
        self.normalised = normalisation is not None
        given = normalisation or Normalisation((0.0,), (1.0,), (1.0,), (0,))
        for name in ("centre", "scale", "clip"):
            self.register_buffer(name, torch.tensor(getattr(given, name)).view(1, -1, 1, 1, 1))
        self.register_buffer("sources", torch.tensor(given.sources))
        self.in_order = given.sources == tuple(range(given.channels))

    def forward(self, image: Tensor) -> Tensor:
        x = image.unsqueeze(2) if self.planes else image
        found = foreground_probabilities(self.network(self._grey(x) if self.normalised else x), self.activation)
        return found.squeeze(2) if self.planes else found

    def _grey(self, x: Tensor) -> Tensor:
        x = x if self.in_order else x.index_select(1, self.sources)
        x = (x - self.centre) * self.scale
        # As `Normalisation.apply` does: what is no number is as black as can be.
        return torch.where(torch.isnan(x), -self.clip.clamp(max=1.0), torch.maximum(-self.clip, x.minimum(self.clip)))


@dataclass(frozen=True)
class Freedom:
    """Which sizes a file takes.

    sides: any multiple of the stride, instead of the training patch alone. batch: several images at once.
    """

    sides: bool
    batch: bool


@dataclass(frozen=True)
class Portable:
    """A module ready to be written to a file.

    module: of `Probabilities`, in evaluation mode on the CPU, with nothing to learn.
    channels: of its input. shape, stride: the training patch and what sides must be multiples of, (z, y, x) or (y, x).
    title: what the architecture is called.
    """

    module: Probabilities
    channels: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    title: str

    def images(self, sides: Sequence[int], batch: int = 1) -> Tensor:
        """Random float32 images (batch, channels, *sides) in the range of grey values the network was trained on."""
        random = torch.Generator().manual_seed(0)
        values = torch.rand((batch, self.channels, *sides), generator=random) * 2 - 1
        if self.module.normalised:
            spread = [1, -1, *[1] * len(sides)]
            # The first channel the network takes of each of the image's.
            first = [int((self.module.sources == channel).nonzero()[0]) for channel in range(self.channels)]
            centre, scale = (part.flatten()[first].view(spread) for part in (self.module.centre, self.module.scale))
            values = values / scale + centre
        return values

    def examples(self, free: Freedom) -> list[Tensor]:
        """Images to compare a file with the network on: of the patch's size, and of each size beyond it is free to."""
        found = [self.images(self.shape)]
        if free.sides:
            found.append(self.images([side + step for side, step in zip(self.shape, self.stride, strict=True)]))
        if free.batch:
            found.append(self.images(self.shape, batch=2))
        return found


def portable(checkpoint: Checkpoint, *, normalise: bool = True, planes: bool = False) -> Portable:
    """The network of a checkpoint from images to probabilities.

    normalise: whether the run's normalisation is part of it. planes: for a 2D network, without the z axis.
    Raises CheckpointError where weights and settings differ.
    """
    config = checkpoint.config
    activation, shape = activation_of(config.loss), config.patches.shape
    outputs = outputs_of(config.loss, len(checkpoint.names))
    network = build_model(config.model, inputs=checkpoint.channels, outputs=outputs, shape=shape)
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint's weights do not fit its own settings: {error}") from error
    for layer in network.modules():
        if type(layer) is SafeConv3d:  # in float32 a plain one is the same, and asks nothing of the sides
            layer.__class__ = nn.Conv3d  # type: ignore[assignment]
    normalisation = checkpoint.normalisation
    module = Probabilities(network, normalisation if normalise else None, activation, planes=planes)
    first = 1 if planes else 0
    return Portable(
        module=module.eval().requires_grad_(False),
        channels=normalisation.image_channels if normalise else normalisation.channels,
        shape=shape[first:],
        stride=model_stride(config.model)[first:],
        title=(type(config.model).__doc__ or config.model.kind).split(":")[0].strip(),
    )


def is_2d(checkpoint: Checkpoint) -> bool:
    """Whether its network sees single planes."""
    return is_flat(checkpoint.config.model) or checkpoint.config.patches.shape[0] == 1


def facts(checkpoint: Checkpoint, made: Portable, free: Freedom) -> dict[str, str]:
    """What a program or a person needs to know of a file, as text by name; lists are JSON."""
    grey = checkpoint.normalisation
    formula = (
        f"(grey - {list(grey.centre)}) * {list(grey.scale)}, clipped to +-{list(grey.clip)}, of the image channels "
        f"{list(grey.sources)}; measured once, on the training images"
    )
    axes = ", ".join("ZYX"[-len(made.shape) :])
    return {
        "made_by": "Seglib Studio",
        "run": checkpoint.config.name,
        "architecture": made.title,
        "step": str(checkpoint.step),
        "epoch": str(checkpoint.epoch),
        "class_names": json.dumps(checkpoint.names),
        "class_values": json.dumps(checkpoint.values),
        "thresholds": json.dumps(checkpoint.thresholds),
        "voxel_size_nm_zyx": json.dumps(checkpoint.voxel_size_nm),
        "patch": json.dumps(made.shape),
        "stride": json.dumps(made.stride),
        "sides": "any multiple of the stride" if free.sides else "the training patch only",
        "batch": "any number of images" if free.batch else "one image at a time",
        "activation": f"{made.module.activation}, part of the model"
        + ("; the background is what is missing to 1" if made.module.activation == "softmax" else ""),
        "normalisation": f"{'part of the model' if made.module.normalised else 'to be done first'}: {formula}",
        "input": f"{INPUT}: float32 (N, C, {axes})",
        "output": f"{OUTPUT}: float32 (N, K, {axes}), a channel a class, no background",
    }


def check_answer(found: Tensor, expected: Tensor, what: str) -> None:
    """Raises SeglibError where the probabilities of a file are not those of the network, within TOLERANCE."""
    if found.shape != expected.shape:
        raise SeglibError(
            f"{what} answers with {tuple(found.shape)} where the network gives {tuple(expected.shape)}: not kept."
        )
    far = float((found - expected).abs().max())
    if not far <= TOLERANCE:
        raise SeglibError(f"{what} differs from the network by up to {far:.2g} (at most {TOLERANCE:g}): not kept.")


def first_line(error: BaseException) -> str:
    """What an exporter says went wrong, in one line of at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
