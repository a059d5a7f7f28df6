"""The 3D U-Net of Çiçek et al. 2016, which TRAILMAP trains; padded, so that the result is as large as the input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Trailmap(nn.Module):
    """(N, C, Z, Y, X) -> logits (N, outputs, Z, Y, X). Channels double before each pooling, not after it."""

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [_double(inputs, 32, 64), _double(64, 64, 128), _double(128, 128, 256), _double(256, 256, 512)]
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(width, width, 2, 2, bias=False) for width in (512, 256, 128))
        self.merge = nn.ModuleList(
            [_double(512 + 256, 256, 256), _double(256 + 128, 128, 128), _double(128 + 64, 64, 64)]
        )
        self.head = nn.Conv3d(64, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((inputs, middle), (middle, outputs)):
        layers += [nn.Conv3d(a, b, 3, padding=1), nn.BatchNorm3d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
