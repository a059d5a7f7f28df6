"""Which devices there are and in which precision they compute best."""

import contextlib
import os
from collections.abc import Iterator

import psutil
import torch

from seglib.config import DeviceConfig
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


def half_type(device: torch.device, precision: str) -> torch.dtype | None:
    """The type of 16 bits to compute in, or None for float32."""
    if not use_half(device, precision):
        return None
    return torch.float16 if precision == "fp16" else torch.bfloat16


def use_half(device: torch.device, precision: str) -> bool:
    """Whether to compute in 16 bits: as asked, or for `auto` where the device has instructions for bfloat16."""
    if precision != "auto":
        return precision in ("bf16", "fp16")
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
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(message) from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The allocators of the CPU (Linux, Windows) and of Apple's GPUs have no exception of their own.
    said = str(error)
    return any(text in said for text in ("can't allocate memory", "not enough memory", "out of memory"))


def memory_used(device: torch.device) -> str:
    """The most memory that was used on the device so far, in words."""
    if device.type == "cuda":
        used, whole = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
        return f"at its peak {used / 2**30:.2f} GB of {whole / 2**30:.1f} GB were used on {device}"
    process, machine = psutil.Process().memory_info().rss, psutil.virtual_memory().total
    return f"the program uses {process / 2**30:.2f} GB of the machine's {machine / 2**30:.1f} GB"


def set_threads(compute: DeviceConfig) -> None:
    """Sets how many CPU threads torch uses; 0 is one per core this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(compute.threads or cores)


def use_deterministic(device: torch.device, wanted: bool) -> None:
    """Lets only algorithms run that give the same result every time, or any; said once, it holds for the program."""
    if device.type == "cuda" and wanted:
        # cuBLAS asks for it before its first call.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = device.type == "cuda" and not wanted
