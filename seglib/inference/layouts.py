"""How a network that predicts is best laid out in memory, found by trying."""

import time
from dataclasses import replace

import torch

from seglib.data.splits import Shape
from seglib.inference.predict import Predictor

LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)
ROUNDS = 3
# A trial that takes longer is not repeated.
LONG_S = 0.5


def fastest_layout(predictor: Predictor, window: Shape) -> Predictor:
    """The predictor in the layout that answers a window (z, y, x) sooner; its weights keep their values."""
    images = torch.zeros(1, predictor.normalisation.channels, *window, device=predictor.device)
    times = {}
    for layout in LAYOUTS:
        predictor.network.to(memory_format=layout)
        trial = replace(predictor, layout=layout)
        _seconds(trial, images)
        times[layout] = _seconds(trial, images)
        for _ in range(ROUNDS - 1 if times[layout] < LONG_S else 0):
            times[layout] = min(times[layout], _seconds(trial, images))
    best = min(LAYOUTS, key=lambda layout: times[layout])
    predictor.network.to(memory_format=best)
    return replace(predictor, layout=best)


def _seconds(predictor: Predictor, images: torch.Tensor) -> float:
    began = time.perf_counter()
    predictor.logits(images)
    if predictor.device.type == "cuda":
        torch.cuda.synchronize(predictor.device)
    return time.perf_counter() - began
