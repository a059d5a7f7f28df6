"""Which devices there are and in which precision they compute best."""

import contextlib
import os
from collections.abc import Iterator

import torch

from seglib.config import ComputeConfig
from seglib.errors import ConfigError, OutOfMemory


def list_devices() -> list[str]:
    """Names of the devices of this machine, the best first; the CPU is always the last."""
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def choose_device(wish: str) -> str:
    """The device a config asks for, with `auto` and `cuda` made definite.

    Raises ConfigError where this machine has no such device.
    """
    devices = list_devices()
    chosen = devices[0] if wish == "auto" else "cuda:0" if wish == "cuda" else wish
    if chosen not in devices:
        raise ConfigError(f"This machine has no device {wish!r}. It has: {', '.join(devices)}.")
    return chosen


def use_half(device: torch.device, precision: str) -> bool:
    """Whether to compute in bfloat16: as asked, or for `auto` where the device has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


@contextlib.contextmanager
def out_of_memory_as(message: str) -> Iterator[None]:
    """Turns the ways in which devices run out of memory into OutOfMemory with a message."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(message) from error
    except RuntimeError as error:
        # The allocators of the CPU (Linux, Windows) and of Apple's GPUs have no exception of their own.
        if any(said in str(error) for said in ("can't allocate memory", "not enough memory", "out of memory")):
            raise OutOfMemory(message) from error
        raise


def set_threads(compute: ComputeConfig) -> None:
    """Sets how many CPU threads torch uses; 0 is one per core this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(compute.threads or cores)
