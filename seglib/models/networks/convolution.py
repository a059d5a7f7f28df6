"""Convolutions that can be trusted in bfloat16 on a CPU.

torch's CPU library (oneDNN, seen in torch 2.15) gets the weight gradient of a bfloat16 3D convolution wrong where an
input side is smaller than the kernel: parts of it are uninitialised memory, and kernels of 7 write past their
buffer. The deepest level of a 3D U-Net on a thin patch is such a case; losses then turn into NaN at random. In
float32 the same convolution is right, and at these sizes costs next to nothing.
"""

import torch
from torch import Tensor, nn


class SafeConv3d(nn.Conv3d):
    """nn.Conv3d that leaves bfloat16 autocast, on a CPU, where an input side is smaller than the kernel."""

    def forward(self, input: Tensor) -> Tensor:
        thin = any(side < kernel for side, kernel in zip(input.shape[-3:], self.kernel_size, strict=True))
        if input.device.type != "cpu" or not thin:
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def guard_convolutions(network: nn.Module) -> nn.Module:
    """Makes every plain 3D convolution of a network a SafeConv3d, in place; its weights stay as they are."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = SafeConv3d
    return network
