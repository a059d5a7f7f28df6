"""The processes beside the first one, where a run uses several GPUs: how they are started, and what they do."""

import contextlib
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from torch import distributed as dist

from seglib.checkpoints import Checkpoint
from seglib.config import RunConfig
from seglib.data.volumes import Volume
from seglib.errors import ConfigError, TrainingError
from seglib.inference.devices import choose_device
from seglib.training.ranks import Ranks
from seglib.training.setup import prepare
from seglib.training.step import freeze_encoder, make_step, read_batches

# The others wait while the first one validates, however long that takes.
PATIENCE = timedelta(days=7)
END_S = 10.0


@contextlib.contextmanager
def gathered(config: RunConfig, volumes: Sequence[Volume], resume: Checkpoint | None) -> Iterator[Ranks]:
    """Starts the other processes of a run, if it has any, and ends them on the way out.

    Raises ConfigError where the machine has fewer GPUs, TrainingError where one of the processes has ended.
    """
    world = config.compute.gpus
    if world == 1:
        yield Ranks()
        return
    devices = rank_devices(config)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        others = [
            context.Process(
                target=_follow,
                args=(Ranks(rank, world), meeting, _on(config, devices[rank]), volumes, resume),
                daemon=True,
            )
            for rank in range(1, world)
        ]
        for process in others:
            process.daemon = True  # ends with the first one, however that ends
            process.start()
        try:
            _meet(Ranks(0, world), meeting, devices[0])
            yield Ranks(0, world)
        except RuntimeError as error:
            raise _better(error, others) from error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for process in others:
                process.join(END_S)
                process.kill()


def rank_devices(config: RunConfig) -> list[str]:
    """The device of each process of a run. Raises ConfigError where the machine has fewer GPUs than asked for."""
    world, first = config.compute.gpus, choose_device(config.compute.device)
    if world == 1:
        return [first]
    if config.compute.device == "cpu":
        return ["cpu"] * world
    start, there = int(first.partition(":")[2] or 0), torch.cuda.device_count()
    if not first.startswith("cuda") or start + world > there:
        raise ConfigError(f"The run asks for {world} GPUs from {first} on, and this machine has {there}.")
    return [f"cuda:{start + rank}" for rank in range(world)]


def _on(config: RunConfig, device: str) -> RunConfig:
    return config.model_copy(update={"compute": config.compute.model_copy(update={"device": device})})


def _meet(ranks: Ranks, meeting: str, device: str) -> None:
    backend = "nccl" if device.startswith("cuda") else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=meeting, rank=ranks.rank, world_size=ranks.world, timeout=PATIENCE)


def _better(error: RuntimeError, others: Sequence[SpawnProcess]) -> Exception:
    """What is said of an error of the connection where a process at its other end is gone."""
    gone = [(rank, process.exitcode) for rank, process in enumerate(others, 1) if not process.is_alive()]
    if not gone:
        return error
    rank, code = gone[0]
    return TrainingError(f"Process {rank} of {len(others)} beside the first one ended with code {code}: {error}")


def _follow(
    ranks: Ranks, meeting: str, config: RunConfig, volumes: Sequence[Volume], resume: Checkpoint | None
) -> None:
    """What a process beside the first one does: the same steps, on its share of every batch, as it is told."""
    _meet(ranks, meeting, config.compute.device)
    setup = prepare(config, volumes, resume=resume, ranks=ranks)
    # What is dropped out is another thing in every process.
    torch.manual_seed(config.length.seed + ranks.rank)
    step = resume.step if resume else 0
    with read_batches(setup, step) as batches:
        while (order := ranks.take_order(len(setup.optimiser.param_groups), setup.device)) is not None:
            micro, rates = order
            for group, rate in zip(setup.optimiser.param_groups, rates, strict=True):
                group["lr"] = rate
            freeze_encoder(setup, step)
            batch = batches.take()
            while make_step(setup, batch, step=step, micro=micro) is None:
                retry = ranks.take_order(len(setup.optimiser.param_groups), setup.device)
                if retry is None:
                    return
                micro = retry[0]
            step += 1
