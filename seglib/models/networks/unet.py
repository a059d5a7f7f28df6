"""The U-Net as a module: what its plan says, level by level."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "gelu": nn.GELU,
}
Spatial = tuple[int, int, int]


@dataclass(frozen=True)
class UNetPlan:
    """widths: channels of each level, the finest first. flat_levels: so many of them look and shrink in the plane only.

    dropout, deepest_dropout: of the finest and of the deepest level; what lies between rises evenly.
    """

    widths: tuple[int, ...]
    kernel_size: int = 3
    flat_levels: int = 0
    residual: bool = False
    norm: str = "batch"
    activation: str = "relu"
    dropout: float = 0.0
    deepest_dropout: float = 0.0
    upsampling: str = "transposed"
    deep_supervision: bool = False

    def kernel(self, level: int) -> Spatial:
        """(z, y, x) of the convolutions of a level."""
        side = self.kernel_size
        return (1 if level < self.flat_levels else side, side, side)

    def pool(self, level: int) -> Spatial:
        """(z, y, x) by which the step from a level to the next shrinks."""
        return (1 if level < self.flat_levels else 2, 2, 2)

    def dropout_of(self, level: int) -> float:
        """Share of channels that a level switches off."""
        share = level / max(1, len(self.widths) - 1)
        return self.dropout + share * (self.deepest_dropout - self.dropout)


class UNet(nn.Module):
    """A U-Net over (N, C, Z, Y, X); one whose levels are all flat leaves Z alone.

    Returns logits (N, outputs, Z, Y, X); with deep supervision, while training, a list of those of every level,
    enlarged, the finest last.
    """

    def __init__(self, plan: UNetPlan, *, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = plan.widths
        sources = [inputs, *widths[:-1]]
        levels = range(len(widths))
        self.down = nn.ModuleList(_level(plan, level, sources[level], widths[level]) for level in levels)
        self.pool = nn.ModuleList(nn.MaxPool3d(plan.pool(level)) for level in levels[:-1])
        rising = levels[-2::-1]
        self.up = nn.ModuleList(_up(plan, level, widths[level + 1], widths[level]) for level in rising)
        self.merge = nn.ModuleList(_level(plan, level, 2 * widths[level], widths[level]) for level in rising)
        self.head = nn.Conv3d(widths[0], outputs, 1)
        coarser = rising[:-1] if plan.deep_supervision else ()
        self.coarse_heads = nn.ModuleList(nn.Conv3d(widths[level], outputs, 1) for level in coarser)
        halves = [0.5 ** (len(coarser) - place) for place in range(len(coarser))]
        self.loss_weights = [*halves, 1.0]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        coarse = []
        size = x.shape[2:]
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool[level - 1](x) if level else x)
            skips.append(x)
        for place, (up, merge, skip) in enumerate(zip(self.up, self.merge, skips[-2::-1], strict=True)):
            x = merge(torch.cat([skip, up(x)], dim=1))
            if self.training and place < len(self.coarse_heads):
                coarse.append(F.interpolate(self.coarse_heads[place](x), size, mode="trilinear"))
        logits: Tensor = self.head(x)
        return [*coarse, logits] if coarse else logits


class _Residual(nn.Module):
    """Layers whose input is added to their output, by a 1 × 1 × 1 convolution where channels differ."""

    def __init__(self, layers: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = layers
        self.skip = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x) + self.skip(x)
        return found


class _Linear(nn.Module):
    """Enlarges by linear interpolation, then brings the channels down."""

    def __init__(self, factor: Spatial, inputs: int, outputs: int) -> None:
        super().__init__()
        self.factor = [float(side) for side in factor]
        self.channels = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Channels first: the same result from fewer voxels.
        return F.interpolate(self.channels(x), scale_factor=self.factor, mode="trilinear")


def _up(plan: UNetPlan, level: int, inputs: int, outputs: int) -> nn.Module:
    factor = plan.pool(level)
    if plan.upsampling == "linear":
        return _Linear(factor, inputs, outputs)
    return nn.ConvTranspose3d(inputs, outputs, factor, factor)


def _level(plan: UNetPlan, level: int, inputs: int, outputs: int) -> nn.Module:
    kernel = plan.kernel(level)
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        # A norm layer has a bias of its own.
        layers.append(nn.Conv3d(channels, outputs, kernel, padding=padding, bias=plan.norm == "none"))
        layers += [*norm_layers(plan.norm, outputs), ACTIVATIONS[plan.activation]()]
    if plan.dropout_of(level):
        layers.append(nn.Dropout3d(plan.dropout_of(level)))
    block = nn.Sequential(*layers)
    return _Residual(block, inputs, outputs) if plan.residual else block


def norm_layers(kind: str, channels: int) -> list[nn.Module]:
    """The layer of a normalisation, or none."""
    match kind:
        case "batch":
            return [nn.BatchNorm3d(channels)]
        case "instance":
            return [nn.InstanceNorm3d(channels, affine=True)]
        case "group":
            groups = next(n for n in range(min(GROUPS, channels), 0, -1) if channels % n == 0)
            return [nn.GroupNorm(groups, channels)]
        case _:
            return []
