"""Varying the grey values of a batch: light, contrast, noise and blur, and what goes wrong with sections."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.config import Varied


def vary_grey(images: Tensor, config: Varied, rng: np.random.Generator) -> Tensor:
    """Images of the same shape, each varied by its own draw. images: float32 (N, C, Z, Y, X), normalised."""
    result = images if images.is_contiguous() else images.contiguous()
    noise = torch.Generator(result.device).manual_seed(int(rng.integers(2**62)))
    for image in result:
        _vary(image, config, rng, noise)
    return result


def _vary(image: Tensor, config: Varied, rng: np.random.Generator, noise: torch.Generator) -> None:
    """Varies one image (C, Z, Y, X) in place, in the order a microscope does: optics, light, camera, sections."""
    fires = rng.random(9) < [
        config.blur, config.gamma, config.contrast, config.brightness, config.noise,
        config.motion, config.missing, config.cutout, 0.5,
    ]  # fmt: skip
    blur, gamma, contrast, brightness, noisy, motion, missing, cutout, black = (bool(fire) for fire in fires)
    if blur:
        _blur(image, rng.uniform(0.2, 1.0) * config.blur_by)
    if gamma:
        _gamma(image, _about_one(config.gamma_by, rng))
    if contrast:
        mean = image.mean((1, 2, 3), keepdim=True)
        image.sub_(mean).mul_(1 + rng.uniform(-config.contrast_by, config.contrast_by)).add_(mean)
    if brightness:
        image.add_(rng.uniform(-config.brightness_by, config.brightness_by))
    if noisy:
        deviation = rng.uniform(0.1, 1.0) * config.noise_by
        image.add_(torch.randn(image.shape, generator=noise, device=image.device), alpha=deviation)
    if motion:
        _smear_planes(image, config.motion_length, rng)
    if missing and image.shape[1] > 1:
        _blank_planes(image, config.missing_most, rng, black=black)
    if cutout:
        _cut_out(image, config.cutout_share, rng)


def _about_one(amount: float, rng: np.random.Generator) -> float:
    """Between 1 / (1 + amount) and 1 + amount, on either side of 1 equally often."""
    most = math.log(1 + amount)
    return math.exp(rng.uniform(-most, most))


def _gamma(image: Tensor, exponent: float) -> None:
    low, high = torch.aminmax(image)
    room = (high - low).clamp_min(1e-6)
    image.sub_(low).div_(room).pow_(exponent).mul_(room).add_(low)


def _blur(image: Tensor, sigma: float) -> None:
    """A Gaussian in the plane, cut off at three sigma, mirrored at the edges."""
    radius = min(max(1, math.ceil(3 * sigma)), min(image.shape[2:]) - 1)
    if sigma <= 0 or radius < 1:
        return
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    taps = (weights / weights.sum()).tolist()
    for axis, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        wide = F.pad(image, padding, mode="reflect")
        side = image.shape[axis]
        image.zero_()
        for offset, tap in enumerate(taps):
            image.add_(wide.narrow(axis, offset, side), alpha=tap)


def _smear_planes(image: Tensor, longest: int, rng: np.random.Generator) -> None:
    """One plane, or two of a deep image, averaged along a line."""
    depth, height, width = image.shape[1:]
    for z in rng.choice(depth, size=min(depth, int(rng.integers(1, 3))), replace=False):
        length, angle = int(rng.integers(3, longest + 1)), rng.uniform(0, math.pi)
        reach = min(length // 2, min(height, width) - 1)
        plane = image[:, int(z)]
        wide = F.pad(plane[None], (reach,) * 4, mode="reflect")[0]
        steps = range(-reach, reach + 1)
        places = [(round(s * math.sin(angle)), round(s * math.cos(angle))) for s in steps]
        smeared = torch.stack(
            [wide[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width] for dy, dx in places]
        )
        plane.copy_(smeared.mean(0))


def _blank_planes(image: Tensor, most: int, rng: np.random.Generator, *, black: bool) -> None:
    """Some planes become as dark as the image gets, or as bright as it is on average."""
    depth = image.shape[1]
    count = min(int(rng.integers(1, most + 1)), depth - 1)
    level = image.amin((1, 2, 3)) if black else image.mean((1, 2, 3))
    for z in rng.choice(depth, size=count, replace=False):
        image[:, int(z)] = level[:, None, None]


def _cut_out(image: Tensor, most: float, rng: np.random.Generator) -> None:
    box = []
    for side in image.shape[1:]:
        length = max(1, round(rng.uniform(0.2, 1.0) * most * side))
        first = int(rng.integers(0, side - length + 1))
        box.append(slice(first, first + length))
    z, y, x = box
    image[:, z, y, x] = image.mean((1, 2, 3))[:, None, None, None]
