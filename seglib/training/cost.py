"""What a training will cost, known before it starts: parameters, and memory without allocating any."""

from dataclasses import dataclass

import torch
from torch import Tensor

from seglib.config import RunConfig
from seglib.losses import build_loss, outputs_of, total_loss
from seglib.models import build_model

# What optimisers keep for each weight, in multiples of its size.
OPTIMISER_COPIES = {"adam": 2, "adamw": 2, "sgd": 1}
# Measured on CPU over six U-Nets: gradients and reordered copies under way in the backward pass, in multiples of
# the largest activation, and what the kernels' libraries take the first time they run.
FLOWING_COPIES = 5
LIBRARIES_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Cost:
    """parameters: weights of the network; memory_bytes: estimated peak of one training step on the device.

    fixed_bytes: how much of it any batch takes, however small.
    """

    parameters: int
    memory_bytes: int
    fixed_bytes: int


def estimate_cost(config: RunConfig, *, inputs: int, classes: int, half: bool) -> Cost:
    """The cost of training with this config, from a dry run on torch's meta device (takes milliseconds).

    inputs: image channels; classes: foreground classes; half: whether bfloat16 is used.
    Memory is weights, gradients and optimiser state, what the forward pass keeps for the backward pass, and the
    a few times the largest such tensor for the gradients that flow through it.
    Raises ValueError (from torch) where the patch does not fit the network.
    """
    with torch.device("meta"):
        outputs = outputs_of(config.loss, classes)
        network = build_model(config.model, inputs=inputs, outputs=outputs, shape=config.patches.shape)
        images = torch.empty(config.patches.batch_size, inputs, *config.patches.shape)
        target = torch.empty(config.patches.batch_size, *config.patches.shape, dtype=torch.uint8)
    weights = {id(parameter) for parameter in network.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # ids of tensors are only unique while they live

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights and id(tensor) not in kept:
            kept[id(tensor)] = tensor.numel() * tensor.element_size()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = network(images)
    network_bytes = sum(kept.values()) // (2 if half else 1)
    loss_before = sum(kept.values())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total_loss(build_loss(config.loss), found, target, network)
    loss_bytes = sum(kept.values()) - loss_before
    parameters = sum(parameter.numel() for parameter in network.parameters())
    copies = 2 + OPTIMISER_COPIES[config.optimiser.kind] + (0.5 if half else 0)
    flowing = FLOWING_COPIES * max(kept.values()) // (2 if half else 1)
    fixed = int(4 * parameters * copies) + LIBRARIES_BYTES
    return Cost(parameters, fixed + network_bytes + loss_bytes + flowing, fixed)
