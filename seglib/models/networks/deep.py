"""Networks of others that give more than one result."""

from torch import Tensor, nn

from seglib.models.networks.planes import Planes


class Last(nn.Module):
    """The last of the results a network gives as a list. unused: names of its modules that make the others."""

    def __init__(self, network: nn.Module, *, unused: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network = network
        for name in unused:
            setattr(network, name, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x)[-1]
        return found


class DeepSupervision(nn.Module):
    """MONAI's DynUNet, whose heads lie in one more dimension while it trains: here a list, the finest last."""

    def __init__(self, network: nn.Module, coarse: int, *, flat: bool) -> None:
        super().__init__()
        self.network = network
        self.flat = flat
        self.loss_weights = [*[0.5 ** (coarse - place) for place in range(coarse)], 1.0]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if len(self.loss_weights) == 1 or not self.training:
            return Planes(self.network)(x) if self.flat else self.network(x)
        if not self.flat:
            return list(self.network(x).unbind(1))[::-1]
        count, channels, depth, height, width = x.shape
        flat = x.transpose(1, 2).reshape(count * depth, channels, height, width)
        heads = self.network(flat).unbind(1)[::-1]
        return [head.reshape(count, depth, -1, height, width).transpose(1, 2) for head in heads]
