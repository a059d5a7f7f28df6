"""A trained run as something that predicts: its checkpoint, its network, and what it knew of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seglib.checkpoints import Checkpoint, load_checkpoint
from seglib.config import PredictConfig
from seglib.data.splits import Shape
from seglib.data.volumes import VoxelSize
from seglib.errors import CheckpointError, ConfigError
from seglib.inference.devices import choose_device, half_type, set_threads
from seglib.inference.predict import Predictor
from seglib.inference.resample import SAME
from seglib.losses import outputs_of
from seglib.models import build_model, is_flat
from seglib.store import Store
from seglib.store.runs import CheckpointRow, checkpoints, get_run
from seglib.training.cost import estimate_cost
from seglib.training.setup import make_predictor
from seglib.workspace import Workspace

# Of a run that was never validated.
UNTUNED = 0.5


@dataclass(frozen=True)
class TrainedModel:
    """A network ready to predict, with what its run knew.

    tile: the training patch (z, y, x); thresholds: probability each class needs, best on the run's validation part.
    voxel_size_nm: (z, y, x) it was trained at; flat: whether it works plane by plane.
    """

    predictor: Predictor
    tile: Shape
    values: tuple[int, ...]
    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    voxel_size_nm: VoxelSize = (1.0, 1.0, 1.0)
    flat: bool = False


def load_model(checkpoint: Checkpoint, config: PredictConfig) -> TrainedModel:
    """The network of a checkpoint on the device a prediction asks for. Raises CheckpointError where they differ."""
    device = torch.device(choose_device(config.compute.device))
    set_threads(config.compute)
    run = checkpoint.config
    outputs = outputs_of(run.loss, len(checkpoint.names))
    network = build_model(run.model, inputs=checkpoint.channels, outputs=outputs, shape=run.patches.shape)
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint's weights do not fit its own settings: {error}") from error
    network = network.to(device).eval()
    predictor = make_predictor(
        run,
        network,
        checkpoint.normalisation,
        classes=len(checkpoint.names),
        device=device,
        precision=config.compute.precision,
    )
    return TrainedModel(
        predictor,
        run.patches.shape,
        checkpoint.values,
        checkpoint.names,
        checkpoint.thresholds or (UNTUNED,) * len(checkpoint.names),
        checkpoint.voxel_size_nm,
        is_flat(run.model),
    )


def check_alike(models: Sequence[TrainedModel], runs: Sequence[int]) -> None:
    """Raises ConfigError where models cannot predict together. runs: what they are called."""
    first = models[0]
    for model, run in zip(models[1:], runs[1:], strict=True):
        differs = [
            what
            for what, own, other in (
                ("classes", first.names, model.names),
                ("label values", first.values, model.values),
                ("way of deciding between classes", first.predictor.activation, model.predictor.activation),
                (
                    "channels",
                    first.predictor.normalisation.image_channels,
                    model.predictor.normalisation.image_channels,
                ),
                ("patch", first.tile, model.tile),
            )
            if own != other
        ]
        ratio = np.array(model.voxel_size_nm) / np.array(first.voxel_size_nm)
        if (np.maximum(ratio, 1 / ratio) > 1 + SAME).any():
            differs.append("voxel size")
        if differs:
            raise ConfigError(
                f"Run {run} cannot predict together with run {runs[0]}: it has another {' and another '.join(differs)}."
            )


def bytes_per_voxel(checkpoint: Checkpoint, device: torch.device, precision: str) -> float:
    """About how much memory it takes to predict one voxel of a window."""
    run, half = checkpoint.config, half_type(device, precision) is not None
    cost = estimate_cost(run, inputs=checkpoint.channels, classes=len(checkpoint.names), half=half)
    return cost.prediction_bytes / (run.patches.batch_size * float(np.prod(run.patches.shape)))


def trained_checkpoint(workspace: Workspace, store: Store, run_id: int, wanted: str) -> Checkpoint:
    """The checkpoint of a run a prediction asks for, checked; see `checkpoint_row`."""
    row = checkpoint_row(store, run_id, wanted)
    return load_checkpoint(workspace.checkpoint(run_id, row.kind), sha256=row.sha256)


def checkpoint_row(store: Store, run_id: int, wanted: str) -> CheckpointRow:
    """What is known of a checkpoint; of the last one for the best where a run keeps no other.

    Raises CheckpointError where the run has none yet.
    """
    known = checkpoints(store, run_id)
    only_last = wanted == "best" and _keeps_last(store, run_id)
    kind = "last" if only_last and "best" not in known else wanted
    if kind not in known:
        raise CheckpointError(f"Run {run_id} has no {wanted} checkpoint yet: it appears after the first validation.")
    return known[kind]


def _keeps_last(store: Store, run_id: int) -> bool:
    """Whether a run keeps no state but its last one."""
    return bool(get_run(store, run_id).config.get("checkpoints", {}).get("keep") == "last")
