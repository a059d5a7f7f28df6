"""Devices: wishes become names, and what is not there is refused."""

import pytest
import torch

from seglib.config import ComputeConfig
from seglib.errors import ConfigError
from seglib.inference.devices import choose_device, list_devices, set_threads, use_half

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_takes_the_first_gpu(two_gpus):
    assert list_devices() == ["cuda:0", "cuda:1", "cpu"]
    wishes = ["auto", "cuda", "cuda:1", "cpu"]
    assert [choose_device(wish) for wish in wishes] == ["cuda:0", "cuda:0", "cuda:1", "cpu"]


def test_a_machine_without_gpu_computes_on_its_cpu(no_gpu):
    assert choose_device("auto") == "cpu"


@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(no_gpu, wish):
    with pytest.raises(ConfigError, match=f"no device '{wish}'. It has: cpu"):
        choose_device(wish)


def test_precision_is_as_asked():
    assert use_half(CPU, "bf16")
    assert not use_half(CPU, "fp32")


@pytest.mark.parametrize(("avx", "amx", "half"), [(False, False, False), (True, False, True), (False, True, True)])
def test_auto_precision_follows_the_cpus_instructions(monkeypatch, avx, amx, half):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert use_half(CPU, "auto") is half
    assert use_half(torch.device("mps"), "auto") is False


def test_auto_precision_can_be_asked_of_this_cpu():
    assert use_half(CPU, "auto") in (True, False)


def test_threads_are_as_asked_or_one_per_core(threads, monkeypatch):
    set_threads(ComputeConfig(threads=3))
    assert torch.get_num_threads() == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 5}, raising=False)
    set_threads(ComputeConfig())
    assert torch.get_num_threads() == 2
