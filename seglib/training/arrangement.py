"""How a network is laid out in memory and compiled: as asked, or as a short timed trial finds it faster."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from seglib.checkpoints import Checkpoint
from seglib.config import RunConfig
from seglib.data.splits import Shape
from seglib.inference.devices import half_type
from seglib.inference.predict import Predictor
from seglib.losses import Loss, total_loss

# Batches of fewer voxels gain nothing worth a trial; steps that take longer would delay the start.
LEAST_VOXELS = 200_000
LONG_S = 0.7
ROUNDS = 3
# A gain below this share might be noise, and the same run would be another one the next time.
GAIN = 0.1
# Compiling takes about a minute; a run has to be longer for it to be tried.
LEAST_RUN_S = 900.0

Trial = Callable[[nn.Module, torch.memory_format], float]


@dataclass(frozen=True)
class Arrangement:
    """learner: what a batch goes through; layout: of the images in memory; notes: what was tried and found."""

    learner: nn.Module
    layout: torch.memory_format
    notes: tuple[str, ...]


def trial_of(predictor: Predictor, loss: Loss, config: RunConfig, shape: Shape) -> Trial:
    """A function that gives the seconds of one step of a network, forwards and backwards, on a batch of noise."""

    def run(network: nn.Module, layout: torch.memory_format) -> float:
        size = (config.patches.batch_size, predictor.normalisation.channels, *shape)
        noise = torch.randn(size, device=predictor.device).contiguous(memory_format=layout)
        target = torch.zeros(config.patches.batch_size, *shape, dtype=torch.uint8, device=predictor.device)
        _wait(predictor.device)
        before = time.perf_counter()
        with predictor.autocast():
            found = network(noise)
        total_loss(loss, found, target, network)[1].backward()
        _wait(predictor.device)
        return time.perf_counter() - before

    return run


def arrange(
    network: nn.Module, config: RunConfig, resume: Checkpoint | None, *, trial: Trial, steps: int
) -> Arrangement:
    """Lays a network out in memory, and compiles it where that is wanted. Its weights keep their values.

    resume: a run that goes on keeps the layout it had, so that it goes on exactly.
    steps: of the run, which compiling has to be worth.
    """
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        layout, notes = _choose_layout(network, config, resume, trial)
        network.to(memory_format=layout)
        learner, more = _choose_compiled(network, layout, config, trial, steps)
    return Arrangement(learner, layout, (*notes, *more))


def _choose_layout(
    network: nn.Module, config: RunConfig, resume: Checkpoint | None, trial: Trial
) -> tuple[torch.memory_format, list[str]]:
    asked, plain = config.compute.channels_last, torch.contiguous_format
    device_type = next(network.parameters()).device.type
    if asked != "auto":
        return (torch.channels_last_3d if asked == "on" else plain), []
    if resume:
        return (torch.channels_last_3d if resume.partial.get("channels_last") else plain), []
    if device_type == "cpu" and half_type(torch.device("cpu"), config.compute.precision):
        # Gradients of some networks in bfloat16 with channels last end the process in torch 2.11.
        return plain, []
    if config.compute.deterministic or config.patches.batch_size * math.prod(config.patches.shape) < LEAST_VOXELS:
        return plain, []
    tried = copy.deepcopy(network)
    if trial(tried, plain) > LONG_S:
        return plain, []
    before = _median(trial, tried, plain)
    tried = tried.to(memory_format=torch.channels_last_3d)
    trial(tried, torch.channels_last_3d)
    after = _median(trial, tried, torch.channels_last_3d)
    said = f"A step takes {1000 * before:.0f} ms, and {1000 * after:.0f} ms with channels last in memory"
    if after < (1 - GAIN) * before:
        return torch.channels_last_3d, [f"{said}: channels come last."]
    return plain, [f"{said}: they stay first."]


def _choose_compiled(
    network: nn.Module, layout: torch.memory_format, config: RunConfig, trial: Trial, steps: int
) -> tuple[nn.Module, list[str]]:
    asked, device = config.compute.compile, next(network.parameters()).device
    if asked == "off" or (asked == "auto" and (device.type != "cuda" or config.compute.deterministic)):
        return network, []
    tried = copy.deepcopy(network)
    trial(tried, layout)
    before = _median(trial, tried, layout)
    if asked == "auto" and before * steps < LEAST_RUN_S:
        return network, []
    try:
        compiled = _compiled(tried)
        trial(compiled, layout)
        after = _median(trial, compiled, layout)
    except Exception as error:  # whatever a compiler may lack on this machine; the network itself is as it was
        return network, [f"The network could not be compiled, and is used as it is: {error!s:.300}"]
    said = f"A step takes {1000 * before:.0f} ms, and {1000 * after:.0f} ms compiled"
    if asked == "on" or after < (1 - GAIN) * before:
        return _compiled(network), [f"{said}: the network is compiled."]
    return network, [f"{said}: it is used as it is."]


def _compiled(network: nn.Module) -> nn.Module:
    return cast(nn.Module, torch.compile(network))


def _median(trial: Trial, network: nn.Module, layout: torch.memory_format) -> float:
    return sorted(trial(network, layout) for _ in range(ROUNDS))[ROUNDS // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
