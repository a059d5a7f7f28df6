"""U-Nets after one another."""

from torch import Tensor, nn

from seglib.models.networks.unet import UNet, UNetPlan


class Hourglass(nn.Module):
    """Returns the logits (N, outputs, Z, Y, X) of the last stack; while training, a list of those of every stack."""

    def __init__(self, plan: UNetPlan, *, stacks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        width = plan.widths[0]
        self.start = _unit(inputs, width)
        # Each gives features as wide as it takes.
        self.stacks = nn.ModuleList(UNet(plan, inputs=width, outputs=width) for _ in range(stacks))
        self.features = nn.ModuleList(_unit(width, width) for _ in range(stacks))
        self.scores = nn.ModuleList(nn.Conv3d(width, outputs, 1) for _ in range(stacks))
        self.features_back = nn.ModuleList(nn.Conv3d(width, width, 1) for _ in range(stacks - 1))
        self.scores_back = nn.ModuleList(nn.Conv3d(outputs, width, 1) for _ in range(stacks - 1))
        self.loss_weights = [1.0] * stacks

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        x = self.start(x)
        found = []
        for place, (stack, unit, score) in enumerate(zip(self.stacks, self.features, self.scores, strict=True)):
            features = unit(stack(x))
            found.append(score(features))
            if place < len(self.features_back):
                x = x + self.features_back[place](features) + self.scores_back[place](found[-1])
        return found if self.training and len(found) > 1 else found[-1]


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
