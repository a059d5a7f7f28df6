"""Training and predicting on a CUDA GPU; skipped on machines without one."""

import numpy as np
import pytest
import torch

from seglib.config import ComputeConfig, LengthConfig, PatchConfig, RandomSamplingConfig, UNet3DConfig, WatchConfig
from seglib.events import CheckpointMade, Ended, StepDone, ValidationDone, Warned
from seglib.inference.ensemble import Ensemble
from seglib.inference.predict import Predictor, predict_slabs
from seglib.models import build_model, model_stride
from seglib.training.batch_size import BatchSizes, find_batch_size
from seglib.training.loop import train
from tests.training.test_loop import config, volume

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")


def on_gpu(**changes):
    compute = ComputeConfig(device="cuda", **changes.pop("compute", {}))
    return config(**{"compute": compute, "length": LengthConfig(epochs=2), **changes})


def losses(events):
    return [event.loss for event in events if isinstance(event, StepDone)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_trains_validates_and_ends(precision):
    events = list(train(on_gpu(compute={"precision": precision}), [volume()]))
    assert isinstance(events[-1], Ended)
    assert events[-1].reason == "finished"
    assert np.isfinite(losses(events)).all()
    assert any(isinstance(event, ValidationDone) for event in events)


def test_a_resumed_run_is_the_undisturbed_one():
    settings = on_gpu(compute={"precision": "fp32", "deterministic": True}, length=LengthConfig(epochs=4))
    whole = list(train(settings, [volume()]))
    half = len(losses(whole)) // 2
    seen = []

    def stop():
        return len(seen) >= half

    first = []
    for event in train(settings, [volume()], stop=stop):
        first.append(event)
        if isinstance(event, StepDone):
            seen.append(event)
    state = [event.checkpoint for event in first if isinstance(event, CheckpointMade) and event.kind == "last"][-1]
    rest = list(train(settings, [volume()], resume=state))
    assert losses(first) + losses(rest) == pytest.approx(losses(whole), rel=1e-6)


def test_a_batch_too_large_for_the_gpu_is_computed_in_pieces():
    free, _ = torch.cuda.mem_get_info()
    ballast = torch.empty(max(0, free - 3 * 2**30), dtype=torch.uint8, device="cuda")
    settings = on_gpu(
        patches=PatchConfig(shape=(64, 128, 128), batch_size=16),
        model=UNet3DConfig(depth=2, start_channels=16),
        sampling=RandomSamplingConfig(per_epoch=16),
        length=LengthConfig(epochs=1),
        watch=WatchConfig(memory="halve"),
    )
    events = list(train(settings, [volume((64, 128, 256))]))
    del ballast
    torch.cuda.empty_cache()
    assert any(isinstance(event, Warned) and "Memory ran out" in event.text for event in events)
    assert events[-1].reason == "finished"


def test_the_batch_size_is_found_on_the_device():
    (*_, found) = find_batch_size(on_gpu(), [volume()], most=8)
    assert isinstance(found, BatchSizes)
    assert found.suggestion
    assert all(one.memory_mb > 0 for one in found.tries)


def test_what_is_predicted_is_what_the_cpu_predicts():
    settings = config()
    torch.manual_seed(0)
    network = build_model(settings.model, inputs=1, outputs=1).eval()
    image = volume((12, 40, 44)).image
    found = []
    for device in ("cpu", "cuda"):
        from seglib.config import PercentileConfig
        from seglib.data.normalise import measure

        scale = measure([image], PercentileConfig())
        predictor = Predictor(
            network.to(device), scale, "sigmoid", model_stride(settings.model), 1, torch.device(device), None
        )
        slabs = predict_slabs(predictor, image, tile=(8, 16, 16), overlap=0.25, batch_size=4)
        found.append(np.concatenate([slab.probabilities for slab in slabs], axis=1))
        assert Ensemble([predictor]).device.type == device
    assert np.allclose(found[0], found[1], atol=5e-3)
