"""What a network is made of and how far it sees, found by a dry run on torch's meta device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seglib.config import RunConfig
from seglib.data.normalise import channels_of
from seglib.losses import outputs_of
from seglib.models import build_model
from seglib.models.base import ModelPart, Stride

WHOLE = 10**6
Field = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Layer:
    """name: its place in the network; kind: its class; shape: of its result, (C, …); parameters: its own."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Anatomy:
    """layers: in the order they work. sees: (z, y, x) of the input that a result may depend on, at most the patch.

    Norms over the whole patch are not counted: they see all of it, but no place in it.
    """

    layers: tuple[Layer, ...]
    sees: Stride


def examine_run(config: RunConfig, image_channels: int, *, shape: Stride) -> Anatomy:
    """The anatomy of the network of a run on images of so many channels, for the patches (z, y, x) it draws."""
    outputs = outputs_of(config.loss, len(config.data.scheme.names(config.data.task)))
    return examine(config.model, inputs=channels_of(config.normalisation, image_channels), outputs=outputs, shape=shape)


def examine(config: ModelPart, *, inputs: int, outputs: int, shape: Stride) -> Anatomy:
    """The anatomy of a network for patches (z, y, x). Raises as `estimate_cost` does where they do not fit it."""
    with torch.device("meta"):
        network = build_model(config, inputs=inputs, outputs=outputs, shape=shape)
        image = torch.empty(1, inputs, *shape)
    network = network.to("meta").eval()
    layers: list[Layer] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, made: Any) -> None:
            if isinstance(made, Tensor):
                own = sum(weight.numel() for weight in module.parameters(recurse=False))
                layers.append(Layer(name, type(module).__name__.removeprefix("Safe"), tuple(made.shape[1:]), own))

        return hook

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if not any(module.children())
    ]
    with torch.no_grad(), _Sight(image) as sight:
        found = network(image) if config.needs_labels else network.judge(image).logits  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    z, y, x = (min(int(field), side) for field, side in zip(sight.of(found), shape, strict=True))
    return Anatomy(tuple(layers), (z, y, x))


class _Sight(TorchFunctionMode):
    """Follows how far each tensor sees: for every axis a (field, jump), in voxels of the input.

    A window of k places widens the field by (k − 1) jumps; a stride widens the jump. What two tensors see together is
    the wider; attention and products of two activations see everything.
    """

    _WINDOWS = (F.conv2d, F.conv3d, torch.conv2d, torch.conv3d)
    _WIDENING = (F.conv_transpose2d, F.conv_transpose3d, torch.conv_transpose2d, torch.conv_transpose3d)
    _POOLS = (F.max_pool2d, F.max_pool3d, F.avg_pool2d, F.avg_pool3d, torch.max_pool2d, torch.max_pool3d)
    _GLOBAL = (
        torch.matmul,
        torch.Tensor.matmul,
        torch.Tensor.__matmul__,
        torch.bmm,
        torch.einsum,
        F.scaled_dot_product_attention,
    )

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._alive = [image]
        self._seen: dict[int, Field] = {id(image): ((1.0, 1.0),) * 3}

    def of(self, tensor: Tensor) -> tuple[float, ...]:
        """Voxels (z, y, x) that a result depends on."""
        return tuple(field for field, _ in self._seen.get(id(tensor), ((1.0, 1.0),) * 3))

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        made = func(*args, **options)
        known = [self._seen[id(one)] for one in _tensors([*args, *options.values()]) if id(one) in self._seen]
        if not known:
            return made
        field = tuple(max(one[axis] for one in known) for axis in range(3))
        field = self._after(func, args, options, made, field)
        for one in _tensors([made]):
            self._alive.append(one)
            self._seen[id(one)] = field
        return made

    def _after(self, func: Any, args: Sequence[Any], options: Mapping[str, Any], made: Any, field: Field) -> Field:
        if func in self._GLOBAL and len(list(_tensors(args))) > 1:
            return tuple((float(WHOLE), jump) for _, jump in field)
        if func in self._WINDOWS:
            kernel = args[1].shape[2:] if len(args) > 1 else options["weight"].shape[2:]
            stride = _each(_argument(args, options, 3, "stride", 1), len(kernel))
            dilation = _each(_argument(args, options, 5, "dilation", 1), len(kernel))
            return _windowed(field, [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)], stride)
        if func in self._POOLS:
            dims = made.ndim - 2 if isinstance(made, Tensor) else 3
            kernel = _each(_argument(args, options, 1, "kernel_size", 2), dims)
            stride = _each(_argument(args, options, 2, "stride", None) or kernel, dims)
            return _windowed(field, kernel, stride)
        if func in self._WIDENING:
            kernel = args[1].shape[2:] if len(args) > 1 else options["weight"].shape[2:]
            stride = _each(_argument(args, options, 3, "stride", 1), len(kernel))
            finer = _scaled(field, [1 / step for step in stride])
            # A kernel no longer than its stride lets places of one source only touch a result.
            return _windowed(finer, [max(1, k - s + 1) for k, s in zip(kernel, stride, strict=True)], [1] * len(kernel))
        if func is F.interpolate:
            source = next(_tensors(args))
            scale = [a / b for a, b in zip(source.shape[2:], made.shape[2:], strict=True)]
            linear = "linear" in str(options.get("mode", args[3] if len(args) > 3 else ""))
            return _scaled(_windowed(field, [2 if linear else 1] * len(scale), [1] * len(scale)), scale)
        return field


def _windowed(field: Field, kernel: Sequence[int], stride: Sequence[int]) -> Field:
    """Axes are counted from the last, as 2D windows leave z alone."""
    found = list(field)
    for place in range(1, len(kernel) + 1):
        seen, jump = found[-place]
        found[-place] = (seen + (kernel[-place] - 1) * jump, jump * stride[-place])
    return tuple(found)


def _scaled(field: Field, factors: Sequence[float]) -> Field:
    found = list(field)
    for place in range(1, len(factors) + 1):
        seen, jump = found[-place]
        found[-place] = (seen, jump * factors[-place])
    return tuple(found)


def _tensors(values: Sequence[Any]) -> Any:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _argument(args: Sequence[Any], options: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else options.get(name, default)


def _each(value: Any, count: int) -> list[int]:
    return [int(one) for one in value] if isinstance(value, list | tuple) else [int(value)] * count
