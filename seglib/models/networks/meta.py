"""Building networks of others on torch's meta device, where nothing is allocated and nothing drawn at random."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class NumbersOnCPU(TorchFunctionMode):
    """Within it `torch.linspace` gives real numbers, as some constructors read their settings out of one."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        more = dict(kwargs or {})
        if func is torch.linspace:
            more["device"] = "cpu"
        return func(*args, **more)
