"""Five levels of double convolutions with bilinear upsampling, as in the mycobacteria notebook."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 5


class CompactUNet(nn.Module):
    """(N, C, Y, X) -> logits (N, outputs, Y, X); sides are multiples of 16."""

    def __init__(self, width: int, *, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        sources = [inputs, *widths[:-1]]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip(sources, widths, strict=True))
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_double(deep + shallow, shallow) for deep, shallow in rising)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = block(torch.cat([skip, wide], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
