"""A run's network as a file, from what the run left in the workspace."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from seglib.data.volumes import open_volume
from seglib.errors import CheckpointError, ConfigError, StoreError
from seglib.sharing import Card, Progress, share_model, shared_path
from seglib.store import Store
from seglib.store.datasets import get_summary
from seglib.store.runs import RunRow, checkpoints, get_run
from seglib.workspace import Workspace


@dataclass(frozen=True)
class Order:
    """What is to be made: of which run, which kind of `sharing.KINDS`, and from which of its checkpoints.

    checkpoint: as `Workspace.checkpoint` names them; for `best`, the last one where the run kept no best.
    card: for kinds that need one; where it does not say what the network learned from, it is the run's data set.
    """

    run_id: int
    kind: str
    checkpoint: str = "best"
    card: Card | None = None


def share_run(
    workspace: Workspace,
    store: Store,
    order: Order,
    path: Path | None = None,
    *,
    progress: Progress = lambda done, total, text: None,
) -> Path:
    """Makes the file at `path`, else in the run's own folder, and returns where it is; see `share_model`.

    Raises ConfigError where the run is no training, CheckpointError where it has no such checkpoint, and as
    `share_model` does.
    """
    from seglib.checkpoints import load_checkpoint

    run = get_run(store, order.run_id)
    if run.kind != "train":
        raise ConfigError(f"Run {run.id} is a prediction: choose the training run it was made with.")
    kept = checkpoints(store, run.id)
    name = "last" if order.checkpoint == "best" and "best" not in kept else order.checkpoint
    if name not in kept:
        raise CheckpointError(
            f"Run {run.id} has no {order.checkpoint} checkpoint: it appears after the first validation."
        )
    place = path or shared_path(workspace, run.id, order.kind)
    if path is None:
        place.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(workspace.checkpoint(run.id, name), sha256=kept[name].sha256)
    card = order.card
    if card is not None and not card.training_data.strip():
        card = replace(card, training_data=_learned_from(store, run))
    sample = _sample(workspace, run.id, checkpoint.normalisation.image_channels)
    share_model(checkpoint, order.kind, place, card=card, sample=sample, progress=progress)
    return place


def _learned_from(store: Store, run: RunRow) -> str:
    try:
        dataset = get_summary(store, run.config["data"]["dataset"])
    except StoreError:  # it was deleted since
        return ""
    return f"Data set {dataset.name}, {dataset.volume_count:,} volume(s)."


def _sample(workspace: Workspace, run_id: int, channels: int) -> NDArray[Any] | None:
    """The run's preview, an image (C, Z, Y, X) of its validation part; None where it has none."""
    if not workspace.preview(run_id).exists():
        return None
    image: NDArray[Any] = open_volume(workspace.preview(run_id)).image[:]
    return image if len(image) >= channels else None
