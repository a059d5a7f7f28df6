"""The W-Net: two U-Nets that learn to divide an image into clusters without labels (Xia & Kulis 2017).

The first divides the image, the second makes the image from the clusters again. In 3D as CellSeg3D has it (Achard et
al. 2024), with its names of tensors, so that weights published for it can be loaded.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.base import SelfJudged

GROUPS = 8
LEVELS = 5
# A normalised image reaches from -1 to 1; the W-Net sees 0 to 100.
MIDDLE, HALF_RANGE = 1.0, 50.0
# How fast the mean grey values of the clusters follow the batches, and the share of voxels that makes one count.
MOMENTUM = 0.1
LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class CutPlan:
    """intensity_sigma: grey values (0–100); spatial_sigma, radius: voxels; to_mean: see `soft_cut`."""

    intensity_sigma: float
    spatial_sigma: float
    radius: int
    to_mean: bool


@dataclass(frozen=True)
class WNetLosses:
    """What the W-Net learns by: the cut and the mean squared error of the reconstruction, and what each counts."""

    cut: CutPlan
    cut_weight: float
    reconstruction_weight: float


class WNet(nn.Module):
    """Returns foreground logits (N, outputs, Z, Y, X); while training, `SelfJudged` with its own loss.

    outputs: 1, or 2 for a background that competes with the foreground.
    Foreground is the brightest (or darkest) cluster, by running means over the training patches.
    """

    brightness: Tensor
    share: Tensor

    def __init__(
        self,
        width: int,
        *,
        inputs: int,
        clusters: int,
        dropout: float,
        losses: WNetLosses,
        bright: bool,
        outputs: int,
    ) -> None:
        super().__init__()
        self.encoder = _Half(width, inputs, clusters, dropout)
        self.decoder = _Half(width, clusters, inputs, dropout)
        self.losses = losses
        self.bright = bright
        self.outputs = outputs
        self.register_buffer("brightness", torch.zeros(clusters))
        self.register_buffer("share", torch.zeros(clusters))

    def forward(self, x: Tensor) -> Tensor | SelfJudged:
        if self.training:
            return self.judge(x)
        return self._foreground(self.encoder(_grey(x)))

    def judge(self, x: Tensor) -> SelfJudged:
        """Logits and loss of normalised images (N, C, Z, Y, X): soft normalised cut and error of reconstruction."""
        grey = _grey(x)
        scores = self.encoder(grey).float()
        clusters = scores.softmax(1)
        made = self.decoder(clusters.to(x.dtype))
        # A dry run on the meta device has no autocast of its own.
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            grey = grey.float()
            loss = self.losses.cut_weight * soft_cut(clusters, grey, self.losses.cut)
            loss = loss + self.losses.reconstruction_weight * F.mse_loss(made.float(), grey)
            if self.training:
                self._follow(clusters.detach(), grey)
        return SelfJudged(self._foreground(scores), loss)

    def _foreground(self, scores: Tensor) -> Tensor:
        """Logits of the foreground cluster against all others."""
        height = self.brightness if self.bright else -self.brightness
        chosen = torch.where(self.share >= LEAST_SHARE * self.share.sum(), height, -torch.inf).argmax()
        others = (chosen + torch.arange(1, len(height), device=scores.device)) % len(height)
        wanted = scores.index_select(1, chosen[None])
        rest = scores.index_select(1, others).logsumexp(1, keepdim=True)
        return wanted - rest if self.outputs == 1 else torch.cat([rest, wanted], 1)

    def _follow(self, clusters: Tensor, grey: Tensor) -> None:
        """Brings the running means of the clusters' grey values and sizes up to date."""
        size = clusters.mean((0, 2, 3, 4))
        value = (clusters * grey.mean(1, keepdim=True)).mean((0, 2, 3, 4)) / size.clamp_min(1e-6)
        # The first batch sets them.
        pace = torch.where(self.share.sum() > 0, MOMENTUM, 1.0)
        self.brightness += pace * (value - self.brightness)
        self.share += pace * (size - self.share)


def soft_cut(clusters: Tensor, grey: Tensor, plan: CutPlan) -> Tensor:
    """K − Σ over clusters of (likeness within the cluster / likeness of the cluster to everything), a scalar.

    clusters: probabilities (N, K, Z, Y, X); grey: (N, C, Z, Y, X), 0–100.
    to_mean: voxels are alike where both are near the cluster's mean, weighted over a cube (CellSeg3D's way, which
    follows F. Odom's); otherwise where their own grey values are, over a ball (Shi & Malik 2000, Xia & Kulis 2017).
    """
    parts = _cut_to_mean(clusters, grey, plan) if plan.to_mean else _cut_of_pairs(clusters, grey, plan)
    within, whole = parts
    return clusters.shape[1] - (within / (whole + 1e-6)).mean(0).sum()


def _cut_to_mean(clusters: Tensor, grey: Tensor, plan: CutPlan) -> tuple[Tensor, Tensor]:
    space = (2, 3, 4)
    # (N, K, C, 1, 1, 1): mean grey value of each cluster.
    size = clusters.mean(space)[:, :, None] + 1e-5
    means = torch.einsum("nkzyx,nczyx->nkc", clusters, grey) / clusters[0, 0].numel() / size
    # One cluster after the other, as all differences at once would be many images.
    within, whole = [], []
    for k in range(clusters.shape[1]):
        chance = clusters[:, k : k + 1]
        far = (grey - means[:, k, :, None, None, None]).square().sum(1, keepdim=True)
        alike = torch.exp(-far.square() / plan.intensity_sigma**2)
        within.append((chance * _blur(chance * alike, plan)).sum((1, *space)))
        whole.append((chance * _blur(alike, plan)).sum((1, *space)))
    return torch.stack(within, 1), torch.stack(whole, 1)


def _blur(values: Tensor, plan: CutPlan) -> Tensor:
    """Sum over a cube around each voxel with Gaussian weights, axis by axis; values: (N, 1, Z, Y, X)."""
    places = torch.arange(-plan.radius, plan.radius + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-places.square() / (2 * plan.spatial_sigma**2))
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        padding = [0, 0, 0]
        shape[2 + axis], padding[axis] = len(kernel), plan.radius
        values = F.conv3d(values, kernel.view(shape), padding=padding)
    return values


def _cut_of_pairs(clusters: Tensor, grey: Tensor, plan: CutPlan) -> tuple[Tensor, Tensor]:
    space = (2, 3, 4)
    within = clusters.square().sum(space)
    whole = clusters.sum(space)
    for shift in _half_ball(plan.radius):
        here, there = _overlap(clusters.shape[2:], shift)
        far = (grey[:, :, *here] - grey[:, :, *there]).square().sum(1, keepdim=True)
        distance = sum(step * step for step in shift)
        alike = torch.exp(-far / plan.intensity_sigma**2 - distance / plan.spatial_sigma**2)
        one, other = clusters[:, :, *here], clusters[:, :, *there]
        # Each pair counts from both of its ends.
        within = within + 2 * (alike * one * other).sum(space)
        whole = whole + (alike * (one + other)).sum(space)
    return within, whole


def _half_ball(radius: int) -> list[tuple[int, int, int]]:
    """Every direction (z, y, x) within a radius once: of two opposite ones the one that goes on."""
    reach = range(-radius, radius + 1)
    ball = [(z, y, x) for z in reach for y in reach for x in reach if z * z + y * y + x * x <= radius * radius]
    return [shift for shift in ball if shift > (0, 0, 0)]


def _overlap(room: torch.Size, shift: tuple[int, int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels that have a neighbour at `shift`, and those neighbours."""
    here = tuple(slice(max(0, -step), max(0, side - max(0, step))) for side, step in zip(room, shift, strict=True))
    there = tuple(slice(max(0, step), max(0, side + min(0, step))) for side, step in zip(room, shift, strict=True))
    return here, there


def _grey(x: Tensor) -> Tensor:
    return (x + MIDDLE) * HALF_RANGE


class _Half(nn.Module):
    """One of the two U-Nets: features (N, inputs, …) to scores (N, outputs, …)."""

    def __init__(self, width: int, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        w = [width * 2**level for level in range(LEVELS)]
        self.max_pool = nn.MaxPool3d(2)
        self.in_b = _Plain(inputs, w[0], dropout)
        self.conv1, self.conv2, self.conv3, self.bot = (_Block(w[i], w[i + 1], dropout) for i in range(4))
        self.conv_trans1, self.conv_trans2, self.conv_trans3, self.conv_trans_out = (
            nn.ConvTranspose3d(w[i], w[i - 1], 2, stride=2) for i in (4, 3, 2, 1)
        )
        self.deconv1, self.deconv2, self.deconv3 = (_Block(w[i], w[i - 1], dropout) for i in (4, 3, 2))
        self.out_b = _Plain(w[1], w[0], dropout, outputs)

    def forward(self, x: Tensor) -> Tensor:
        first = self.in_b(x)
        second = self.conv1(self.max_pool(first))
        third = self.conv2(self.max_pool(second))
        fourth = self.conv3(self.max_pool(third))
        x = self.bot(self.max_pool(fourth))
        x = self.deconv1(torch.cat([fourth, self.conv_trans1(x)], 1))
        x = self.deconv2(torch.cat([third, self.conv_trans2(x)], 1))
        x = self.deconv3(torch.cat([second, self.conv_trans3(x)], 1))
        found: Tensor = self.out_b(torch.cat([first, self.conv_trans_out(x)], 1))
        return found


class _Plain(nn.Module):
    """Two convolutions; with `outputs` a third of 1 × 1 × 1."""

    def __init__(self, inputs: int, width: int, dropout: float, outputs: int | None = None) -> None:
        super().__init__()
        last = [] if outputs is None else [nn.Conv3d(width, outputs, 1)]
        self.module = nn.Sequential(
            nn.Conv3d(inputs, width, 3, padding=1), *_after(width, dropout),
            nn.Conv3d(width, width, 3, padding=1), *_after(width, dropout), *last,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.module(x)
        return found


class _Block(nn.Module):
    """Two pairs of a 3 × 3 × 3 and a 1 × 1 × 1 convolution."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.module = nn.Sequential(
            nn.Conv3d(inputs, inputs, 3, padding=1), nn.Conv3d(inputs, width, 1), *_after(width, dropout),
            nn.Conv3d(width, width, 3, padding=1), nn.Conv3d(width, width, 1), *_after(width, dropout),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.module(x)
        return found


def _after(width: int, dropout: float) -> list[nn.Module]:
    return [nn.ReLU(), nn.Dropout(dropout), nn.GroupNorm(math.gcd(GROUPS, width), width)]
