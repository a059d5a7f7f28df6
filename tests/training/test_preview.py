"""The preview: the piece with most foreground, and its prediction."""

import numpy as np
import pytest
import torch
from torch import nn

from seglib.config import DataConfig, PatchConfig, RunConfig
from seglib.data.normalise import between
from seglib.data.parts import TrainingPart
from seglib.inference.predict import Predictor
from seglib.training import preview
from seglib.training.preview import choose_crop, predict_crop


def part(target, name="leaf") -> TrainingPart:
    target = np.asarray(target, np.uint8)
    image = np.arange(target.size, dtype=np.float32).reshape(1, *target.shape)
    return TrainingPart(name, image, target)


def test_the_piece_is_the_window_with_most_foreground_on_the_grid(monkeypatch):
    monkeypatch.setattr(preview, "MOST", (2, 6, 5))
    monkeypatch.setattr(preview, "COARSE", 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        target = (rng.random((7, 14, 12)) < 0.2) * rng.integers(1, 4, (7, 14, 12))
        crop = choose_crop([part(target)])
        best = max(
            np.count_nonzero(target[z : z + 2, y : y + 6, x : x + 5])
            for z in range(0, 6, 2)
            for y in range(0, 9, 3)
            for x in range(0, 8, 3)
        )
        assert crop.target.shape == (2, 6, 5)
        assert np.count_nonzero(crop.target) == best


def test_image_and_labels_of_the_piece_are_the_same_place():
    target = np.zeros((20, 600, 700), np.uint8)
    target[12:, 500:, 600:] = 3
    whole = part(target)
    crop = choose_crop([whole])
    assert crop.image.shape == (1, 8, 512, 512)
    z, y, x = np.argwhere(crop.target)[0]
    value = int(crop.image[0, z, y, x])
    assert target.ravel()[value] == 3
    assert crop.target.tolist() == np.where(target.ravel()[crop.image[0].astype(int)] > 0, 3, 0).tolist()


def test_of_several_parts_the_richest_is_shown_and_small_ones_whole():
    parts = [part(np.zeros((2, 5, 5))), part(np.ones((3, 4, 6))), part(np.zeros((9, 9, 9)))]
    crop = choose_crop(parts)
    assert np.array_equal(crop.target, parts[1].target)
    assert np.array_equal(crop.image, parts[1].image)


def test_without_any_foreground_there_still_is_a_piece():
    assert choose_crop([part(np.zeros((2, 5, 5)))]).target.shape == (2, 5, 5)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_the_prediction_covers_the_piece(overlap):
    class Threshold(nn.Module):
        def forward(self, x):
            return torch.where(x > 0.5, 9.0, -9.0)

    target = np.random.default_rng(0).integers(0, 2, (5, 9, 7))
    crop = choose_crop([TrainingPart("leaf", target[None].astype(np.float32), target.astype(np.uint8))])
    predictor = Predictor(Threshold(), between([-1.0], [1.0]), "sigmoid", (1, 2, 2), 1, torch.device("cpu"), half=None)
    config = RunConfig(
        data=DataConfig(dataset=1),
        patches=PatchConfig(shape=(2, 4, 4)),
        validation={"overlap": overlap},
    )
    found = predict_crop(predictor, crop, config)
    assert found.dtype == np.uint16
    assert np.array_equal(found, target)
