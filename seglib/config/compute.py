"""Settings of where and how it is computed."""

from typing import Literal

from pydantic import Field

from seglib.part import Part


class DeviceConfig(Part):
    """Where and in which precision it computes."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        title="Device",
        description="Auto takes the first GPU, or the CPU without one.",
        json_schema_extra={"widget": "device"},
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        title="Precision",
        description="bf16 is faster where the device has it (auto checks); fp16 is for older GPUs. fp32 is exact "
        "everywhere.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        title="CPU threads",
        description="Threads for CPU computation; 0 takes one per core.",
        json_schema_extra={"unit": "threads"},
    )
    memory_gb: float = Field(
        0.0,
        ge=0,
        le=10_000,
        title="Memory for volumes",
        description="Volumes are kept in main memory as far as this allows, the others are read from disk while the "
        "network learns; 0 takes half of what is free at the start.",
        json_schema_extra={"unit": "GB"},
    )


class ComputeConfig(DeviceConfig):
    """Where and in which precision it computes."""

    where: Literal["thread", "process"] = Field(
        "thread",
        title="Runs in",
        description="Thread: in the program of the dashboard. Process: in one of its own, so that a crash there ends "
        "this run only; it starts some seconds later.",
    )
    gpus: int = Field(
        1,
        ge=1,
        le=64,
        title="GPUs",
        description="How many GPUs of this machine share every batch. The batch size is for each of them.",
        json_schema_extra={"unit": "GPUs"},
    )
    readers: int = Field(
        0,
        ge=0,
        le=256,
        title="Reading threads",
        description="Threads that read patches ahead of the network; 0 chooses by whether volumes are in memory.",
        json_schema_extra={"unit": "threads"},
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        title="Compile the network",
        description="Auto tries it for a few steps at the start where there is a GPU, and takes it if it is faster.",
    )
    channels_last: Literal["auto", "on", "off"] = Field(
        "auto",
        title="Channels last in memory",
        description="Another order of the numbers in memory. Auto tries both for a few steps and takes the faster one.",
    )
    deterministic: bool = Field(
        False,
        title="Deterministic",
        description="Only algorithms that always give the same result; slower on a GPU. On a CPU runs repeat exactly "
        "anyway, with the same number of threads.",
    )
    most_parameters: float = Field(
        1000.0,
        gt=0,
        le=100_000,
        title="Parameters at most",
        description="A network with more is refused before it starts.",
        json_schema_extra={"unit": "million"},
    )
    least_parameters: float = Field(
        0.0,
        ge=0,
        le=100_000,
        title="Parameters at least",
        description="A network with fewer is refused before it starts.",
        json_schema_extra={"unit": "million"},
    )
