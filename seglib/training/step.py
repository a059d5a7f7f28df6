"""One step of the training: a batch forwards and backwards, piece by piece, and the network improved by it."""

import gc
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seglib.config import ScratchConfig
from seglib.data.patches import Batch
from seglib.data.prefetch import Prefetcher
from seglib.errors import TrainingError
from seglib.inference.devices import is_out_of_memory
from seglib.losses import total_loss
from seglib.metrics.overlap import Counts, no_counts
from seglib.training.optim import clip_gradients
from seglib.training.setup import Setup
from seglib.training.validate import foreground_counts
from seglib.training.watch import not_finite


@dataclass(frozen=True)
class StepResult:
    """loss: of the whole batch; learning_rate: it was made with; gradient_norm: before it was clipped.

    counts: hits, false alarms and misses over `voxels` annotated ones, as the network was before the step.
    """

    loss: float
    learning_rate: float
    gradient_norm: float
    counts: Counts
    voxels: int


def read_batches(setup: Setup, first: int) -> Prefetcher[Batch]:
    """This process's share of the batches of all steps from `first` on, read ahead."""
    size, share = setup.patches_per_step, setup.ranks.share(setup.patches_per_step)
    return Prefetcher(
        lambda step: setup.sampler.batch(step, size, share),
        first=first,
        last=setup.total_steps,
        threads=setup.readers,
        ahead=2 * setup.readers,
    )


def freeze_encoder(setup: Setup, step: int) -> None:
    """Whether the encoder learns follows from the epoch alone, so that a resumed run goes on as it was."""
    weights = setup.config.weights
    if isinstance(weights, ScratchConfig) or not weights.freeze_epochs:
        return
    learns = step // setup.steps_per_epoch >= weights.freeze_epochs
    for weight in setup.encoder:
        weight.requires_grad_(learns)


def make_step(setup: Setup, batch: Batch, *, step: int, micro: int) -> StepResult | None:
    """Improves the network by one batch; None where it does not fit into memory `micro` patches at a time.

    step: how many were made before. Nothing is changed where None comes back, and memory is given back.
    Raises TrainingError where the loss is no number.
    """
    gathered = None
    try:
        gathered = _gather(setup, batch, step, micro)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if setup.ranks.all_fit(gathered is not None, setup.device):
        assert gathered is not None
        return _improve(setup, gathered, step)
    # Outside the exception, whose traceback holds on to every tensor of the step.
    gathered = None
    setup.optimiser.zero_grad(set_to_none=True)
    gc.collect()
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _gather(setup: Setup, batch: Batch, step: int, micro: int) -> tuple[float, Counts, int]:
    """Adds up the gradients of a batch; its loss, and what was counted in so many annotated voxels."""
    images = torch.from_numpy(batch.images).to(setup.device, non_blocking=True)
    target = torch.from_numpy(batch.targets).to(setup.device, non_blocking=True)
    if setup.augmentation:
        images, target = setup.augmentation(images, target, np.random.default_rng([setup.config.length.seed, 3, step]))
    setup.optimiser.zero_grad(set_to_none=True)
    loss, counts, voxels = 0.0, no_counts(len(setup.names)), 0
    for first in range(0, len(images), micro):
        piece = slice(first, first + micro)
        part, logits = _backward(setup, images[piece], target[piece], share=len(images[piece]) / len(images))
        loss += part
        found, annotated = foreground_counts(logits, target[piece], setup.predictor.activation, len(setup.names))
        counts, voxels = counts + found, voxels + annotated
    return loss, counts, voxels


def _improve(setup: Setup, gathered: tuple[float, Counts, int], step: int) -> StepResult:
    """Makes the optimiser's step from the gradients of all processes."""
    rate = float(setup.optimiser.param_groups[0]["lr"])
    loss, counts, voxels = setup.ranks.gather(*gathered, setup.device)
    if not np.isfinite(loss):
        setup.optimiser.zero_grad(set_to_none=True)
        raise TrainingError(f"{not_finite(loss, step + 1, rate)} The last checkpoint is kept.")
    setup.ranks.average_gradients(setup.network.parameters())
    setup.scaler.unscale_(setup.optimiser)
    norm = clip_gradients(setup.network.parameters(), setup.config.optimiser.clip)
    setup.scaler.step(setup.optimiser)
    setup.scaler.update()
    if setup.average:
        setup.average.update(setup.network)
    return StepResult(loss, rate, norm, counts, voxels)


def _backward(setup: Setup, images: Tensor, target: Tensor, *, share: float) -> tuple[float, Tensor]:
    """Adds the gradients of a piece that makes `share` of the batch; its part of the loss, and its logits."""
    if setup.layout is not torch.contiguous_format:
        images = images.contiguous(memory_format=setup.layout)
    with setup.predictor.autocast():
        found = setup.learner(images)
    logits, loss = total_loss(setup.loss, found, target, setup.network)
    loss = loss * share
    setup.scaler.scale(loss).backward()
    return float(loss.detach()), logits.detach()
