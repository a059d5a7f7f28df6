"""A trained run as something that predicts: its checkpoint, its network, and what it knew of its classes."""

from dataclasses import dataclass

import torch

from seglib.checkpoints import Checkpoint, load_checkpoint
from seglib.config import PredictConfig
from seglib.errors import CheckpointError
from seglib.inference.devices import choose_device, set_threads
from seglib.inference.predict import Predictor
from seglib.losses import outputs_of
from seglib.models import build_model
from seglib.store import Store
from seglib.store.runs import checkpoints, get_run
from seglib.training.setup import make_predictor
from seglib.workspace import Workspace

# Of a run that was never validated.
UNTUNED = 0.5


@dataclass(frozen=True)
class TrainedModel:
    """A network ready to predict, with what its run knew.

    tile: the training patch (z, y, x); thresholds: probability each class needs, best on the run's validation part.
    """

    predictor: Predictor
    tile: tuple[int, int, int]
    values: tuple[int, ...]
    names: tuple[str, ...]
    thresholds: tuple[float, ...]


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
    predictor = make_predictor(run, network, checkpoint.normalisation, device, config.compute.precision)
    thresholds = checkpoint.thresholds or (UNTUNED,) * len(checkpoint.names)
    return TrainedModel(predictor, run.patches.shape, checkpoint.values, checkpoint.names, thresholds)


def trained_checkpoint(workspace: Workspace, store: Store, config: PredictConfig) -> Checkpoint:
    """The checkpoint a prediction asks for, checked; the last one for the best where a run keeps no other.

    Raises CheckpointError where the run has none yet.
    """
    known = checkpoints(store, config.run)
    only_last = config.checkpoint == "best" and _keeps_last(store, config.run)
    kind = "last" if only_last and "best" not in known else config.checkpoint
    if kind not in known:
        raise CheckpointError(
            f"Run {config.run} has no {config.checkpoint} checkpoint yet: it appears after the first validation."
        )
    return load_checkpoint(workspace.checkpoint(config.run, kind), sha256=known[kind].sha256)


def _keeps_last(store: Store, run_id: int) -> bool:
    """Whether a run keeps no state but its last one."""
    return bool(get_run(store, run_id).config.get("checkpoints", {}).get("keep") == "last")
