"""The machine a training is sized for, and how fast machines of its kind are."""

from dataclasses import dataclass

import psutil
import torch

from seglib.config import DeviceConfig
from seglib.inference.devices import choose_device, use_half

# Multiply-adds of convolutions a second, in training, as measured on a 2-core server with U-Nets of 16 channels, and
# as nnU-Net's published epoch times give for a data-centre GPU. Orders of magnitude, no promises.
CORE_RATE = 16e9
MOST_CORES = 16
GPU_RATE = {False: 2e12, True: 5e12}


@dataclass(frozen=True)
class Machine:
    """device: as torch names it; memory_bytes: free on it; half: whether it computes in bfloat16.

    cores: of the CPU that a training may use.
    """

    device: str
    memory_bytes: int
    half: bool = False
    cores: int = 1

    @property
    def is_cpu(self) -> bool:
        """Whether there is no GPU to compute on."""
        return self.device == "cpu"

    @property
    def rate(self) -> float:
        """Multiply-adds a second that a training makes, roughly."""
        return CORE_RATE * min(self.cores, MOST_CORES) if self.is_cpu else GPU_RATE[self.half]


def this_machine(compute: DeviceConfig | None = None) -> Machine:
    """The device that these settings choose, with its free memory. Raises ConfigError where there is no such device."""
    compute = compute or DeviceConfig()
    device = choose_device(compute.device)
    cuda = device.startswith("cuda")
    free = torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available
    half = use_half(torch.device(device), compute.precision)
    return Machine(device, int(free), half, compute.threads or torch.get_num_threads())
