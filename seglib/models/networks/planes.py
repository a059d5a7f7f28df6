"""2D networks on volumes: plane by plane."""

from torch import Tensor, nn


class Planes(nn.Module):
    """A network of (N, C, Y, X) that is given (N, C, Z, Y, X), each plane by itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        count, channels, depth, height, width = x.shape
        flat = x.transpose(1, 2).reshape(count * depth, channels, height, width)
        found: Tensor = self.network(flat)
        return found.reshape(count, depth, -1, height, width).transpose(1, 2)
