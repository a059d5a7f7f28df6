"""Every architecture trains through the loop, stops, goes on exactly, and predicts – in 2D and 3D where it has both."""

import numpy as np
import pytest

from seglib.checkpoints import load_checkpoint
from seglib.config import (
    AdamConfig,
    LengthConfig,
    PatchConfig,
    PredictConfig,
    RandomSamplingConfig,
    StandardAugmentationConfig,
)
from seglib.inference.predict import predict_slabs
from seglib.models.zoo.compact import CompactUNetConfig
from seglib.models.zoo.hourglass import HourglassConfig
from seglib.models.zoo.monai import (
    AttentionUNetConfig,
    BasicUNetConfig,
    DynUNetConfig,
    SegResNetConfig,
    SwinUNETRConfig,
    UNETRConfig,
    VNetConfig,
)
from seglib.models.zoo.unet import UNet3DConfig
from seglib.models.zoo.wnet import WNetConfig
from seglib.tasks.trained import load_model
from seglib.training.loop import train
from tests.training.test_loop import asked, config, numbers, saved_run, volume

SMALL = [
    UNet3DConfig(depth=2, start_channels=2, deep_supervision=True, residual=True, flat_levels=1),
    HourglassConfig(depth=2, start_channels=2),
    HourglassConfig(depth=2, start_channels=2, dimensions="2D"),
    CompactUNetConfig(start_channels=4),
    SegResNetConfig(start_channels=8),
    SegResNetConfig(start_channels=8, dimensions="2D"),
    DynUNetConfig(depth=3, start_channels=4),
    DynUNetConfig(depth=3, start_channels=4, dimensions="2D"),
    BasicUNetConfig(start_channels=4, nested=True, dimensions="2D"),
    AttentionUNetConfig(depth=2, start_channels=4),
    VNetConfig(dimensions="2D"),
    SwinUNETRConfig(feature_size=12, dimensions="2D"),
    UNETRConfig(feature_size=8, hidden_size=192, heads=3),
    WNetConfig(start_channels=4),
]


@pytest.mark.parametrize("model", SMALL, ids=lambda model: f"{model.kind}-{'2d' if model.is_flat else '3d'}")
def test_a_run_is_stopped_resumed_exactly_and_predicts(tmp_path, model):
    step = model.stride
    side = {"swin_unetr": 64, "basic_unet": 32}.get(model.kind, 16)
    settings = config(
        model=model,
        patches=PatchConfig(shape=(1 if model.is_flat else max(16, step[0]), side, side), batch_size=2),
        sampling=RandomSamplingConfig(per_epoch=2),
        augmentation=StandardAugmentationConfig(),
        optimiser=AdamConfig(learning_rate=1e-3),
        length=LengthConfig(epochs=2),
    )
    volumes = [volume((18, side + 3, 2 * side + 30))]
    whole = list(train(settings, volumes))
    assert whole[-1].reason == "finished"
    told = saved_run(tmp_path, settings, volumes=volumes, stop=asked(1))
    assert told[-1].reason == "stopped"
    told += saved_run(tmp_path, settings, volumes=volumes, resume=load_checkpoint(tmp_path / "last.pt"))
    assert numbers(told) == numbers(whole)

    trained = load_model(
        load_checkpoint(tmp_path / "last.pt"), PredictConfig(run=1, volume=1, compute=settings.compute)
    )
    slabs = predict_slabs(trained.predictor, volumes[0].image, tile=settings.patches.shape, overlap=0.25, batch_size=2)
    found = np.concatenate([slab.probabilities for slab in slabs], axis=1)
    assert found.shape[1:] == volumes[0].shape_zyx
    assert np.isfinite(found).all()
