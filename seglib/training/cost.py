"""What a training will cost, known before it starts: parameters, memory and multiply-adds, without allocating any."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from seglib.config import RunConfig
from seglib.losses import build_loss, outputs_of, total_loss
from seglib.models import build_model

# What optimisers keep for each weight, in multiples of its size.
OPTIMISER_COPIES = {"adam": 2, "adamw": 2, "sgd": 1, "rmsprop": 1}
MB = 2**20
# Measured on CPU over six networks (U-Nets, SegResNet, V-Net, Swin UNETR, DynUNet): what kernels take beside the
# tensors themselves, as a factor and an amount, in float32 and in bfloat16. In bfloat16 norms and losses stay float32.
TRAINING = {False: (1.15, 60 * MB), True: (1.4, 120 * MB)}
PREDICTION = {False: (1.2, 80 * MB), True: (1.2, 60 * MB)}
HALF_WEIGHTS = 0.5


@dataclass(frozen=True)
class Cost:
    """parameters: weights of the network; memory_bytes: estimated peak of one training step on the device.

    fixed_bytes: how much of it any batch takes, however small.
    prediction_bytes: estimated peak while a batch of tiles as large as the patch is segmented.
    multiply_adds: of one patch forwards.
    """

    parameters: int
    memory_bytes: int
    fixed_bytes: int
    prediction_bytes: int
    multiply_adds: int


class _Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it and still live. peak: the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:  # a view, or changed in place
            return
        self._known[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._known.pop(key, 0)


def estimate_cost(config: RunConfig, *, inputs: int, classes: int, half: bool) -> Cost:
    """The cost of training with this config, from a dry run on torch's meta device.

    inputs: image channels; classes: foreground classes; half: whether bfloat16 is used.
    Memory is weights and optimiser state, and what lives at the worst moment of a step forwards and backwards.
    Raises ConfigError, or ValueError or RuntimeError (from torch), where the patch does not fit the network.
    """
    outputs = outputs_of(config.loss, classes)
    with torch.device("meta"):
        network = build_model(config.model, inputs=inputs, outputs=outputs, shape=config.patches.shape)
        images = torch.empty(config.patches.batch_size, inputs, *config.patches.shape)
        target = torch.empty(config.patches.batch_size, *config.patches.shape, dtype=torch.uint8)
    # Some constructors make a few weights on the CPU all the same.
    network = network.to("meta")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if half:
        network, images = network.bfloat16(), images.bfloat16()
    loss = build_loss(config.loss)

    def step() -> None:
        total_loss(loss, network(images), target, network)[1].backward()

    training = _peak(step)
    network.zero_grad(set_to_none=True)
    network.eval()
    with torch.no_grad():
        prediction = _peak(lambda: network(images))
        multiply_adds = _multiply_adds(network, images[:1])
    factor, amount = TRAINING[half]
    averaged = 1 if config.optimiser.average else 0
    fixed = 4 * parameters * (1 + OPTIMISER_COPIES[config.optimiser.kind] + averaged) + amount
    more, least = PREDICTION[half]
    weights = 4 * parameters * (1 + (HALF_WEIGHTS if half else 0))
    return Cost(
        parameters, int(fixed + factor * training), fixed, int(weights + more * prediction + least), multiply_adds
    )


def _peak(work: Callable[[], object]) -> int:
    with _Live() as live:
        work()
    return live.peak


def _multiply_adds(network: nn.Module, images: Tensor) -> int:
    """Of one patch: half of the floating-point operations torch counts in convolutions and products of matrices."""
    with FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() // 2
