"""Networks that were made for inputs of one size."""

import torch.nn.functional as F
from torch import Tensor, nn

from seglib.errors import ConfigError


class FixedSize(nn.Module):
    """Fills smaller inputs up to the size the network takes, and cuts the result back."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        missing = [want - have for want, have in zip(self.shape, sides, strict=True)]
        if min(missing) < 0:
            raise ConfigError(
                f"This network was trained on patches of {self.shape} and cannot take {tuple(sides)}: use the same."
            )
        if any(missing):
            z, y, x_missing = missing
            x = F.pad(x, (0, x_missing, 0, y, 0, z), mode="replicate")
        found: Tensor = self.network(x)
        return found[:, :, : sides[0], : sides[1], : sides[2]]
