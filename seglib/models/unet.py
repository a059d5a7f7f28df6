"""The U-Net family, 2D and 3D from one description.

After Ronneberger et al. 2015 (doi:10.1007/978-3-319-24574-4_28) and Çiçek et al. 2016
(doi:10.1007/978-3-319-46723-8_49): two convolutions a level, pooling by 2, transposed convolutions back up,
skip connections by concatenation.
"""

import torch
from torch import Tensor, nn

from seglib.config import UNet2DConfig, UNet3DConfig

GROUPS = 8


class UNet(nn.Module):
    """A U-Net over (N, C, Z, Y, X); a 2D one takes Z = 1 and leaves that axis alone.

    Returns logits (N, outputs, Z, Y, X). Every side but a 2D network's Z must be a multiple of `stride`.
    """

    def __init__(self, config: UNet2DConfig | UNet3DConfig, *, inputs: int, outputs: int) -> None:
        super().__init__()
        pool = _spatial(config, 2)
        widths = [config.start_channels * 2**level for level in range(config.depth)]
        sources = [inputs, *widths[:-1]]
        self.down = nn.ModuleList(_level(config, a, b) for a, b in zip(sources, widths, strict=True))
        self.pool = nn.MaxPool3d(pool)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(deep, shallow, pool, pool) for deep, shallow in pairs)
        self.merge = nn.ModuleList(_level(config, 2 * shallow, shallow) for _, shallow in pairs)
        self.head = nn.Conv3d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


def build_unet(config: UNet2DConfig | UNet3DConfig, *, inputs: int, outputs: int) -> UNet:
    """The U-Net a config describes, freshly initialised from torch's global generator."""
    return UNet(config, inputs=inputs, outputs=outputs)


def unet_stride(config: UNet2DConfig | UNet3DConfig) -> tuple[int, int, int]:
    """What each side (z, y, x) of an input must be a multiple of."""
    side = 2 ** (config.depth - 1)
    return (1 if config.kind == "unet_2d" else side, side, side)


def _spatial(config: UNet2DConfig | UNet3DConfig, side: int) -> tuple[int, int, int]:
    return (1 if config.kind == "unet_2d" else side, side, side)


def _level(config: UNet2DConfig | UNet3DConfig, inputs: int, outputs: int) -> nn.Sequential:
    kernel = _spatial(config, config.kernel_size)
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        # A norm layer has a bias of its own.
        layers.append(nn.Conv3d(channels, outputs, kernel, padding=padding, bias=config.norm == "none"))
        layers += [*_norm(config.norm, outputs), nn.ReLU(inplace=True)]
    if config.dropout:
        layers.append(nn.Dropout3d(config.dropout))
    return nn.Sequential(*layers)


def _norm(kind: str, channels: int) -> list[nn.Module]:
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
