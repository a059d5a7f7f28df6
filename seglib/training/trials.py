"""Short trials before a run is started: what they share with a run, and that they leave nothing behind."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seglib.config import ConstantConfig, RunConfig
from seglib.data.volumes import Volume
from seglib.inference.devices import choose_device, out_of_memory_as
from seglib.training.setup import Setup, prepare


@dataclass(frozen=True)
class TrialProgress:
    """How far a trial is. done, total: steps, or batch sizes, at most so many; text: what was found last."""

    done: int
    total: int
    text: str


@contextlib.contextmanager
def undisturbed(config: RunConfig) -> Iterator[None]:
    """A context after which torch has the random numbers, threads and choice of algorithms it had before.

    Raises ConfigError where this machine does not have the device of the config.
    """
    device = torch.device(choose_device(config.compute.device))
    cudnn, threads = torch.backends.cudnn, torch.get_num_threads()
    exact, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    repeated, chosen_by_time = cudnn.deterministic, cudnn.benchmark
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = repeated, chosen_by_time


def prepare_trial(config: RunConfig, volumes: Sequence[Volume], weights: Mapping[str, Tensor] | None) -> Setup:
    """What a run would start with, at its plain learning rate; neither compiled nor laid out anew, as that takes long.

    Raises as `prepare` does, and OutOfMemory where the network itself does not fit.
    """
    compute = config.compute.model_copy(update={"compile": "off", "channels_last": "off"})
    plain = config.model_copy(update={"schedule": ConstantConfig(), "compute": compute})
    with out_of_memory_as("The network does not fit into memory: take a smaller one, or fewer start channels."):
        return prepare(plain, volumes, resume=None, weights=weights)


def set_rate(setup: Setup, rate: float) -> None:
    """Lets the network learn at this rate, and an encoder with a rate of its own as much slower as before.

    After a rate of 0 there is no other.
    """
    factor = rate / setup.optimiser.param_groups[0]["lr"]
    for group in setup.optimiser.param_groups:
        group["lr"] *= factor
