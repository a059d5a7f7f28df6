"""Training and prediction as whole jobs: a stored run in, events out, files in the workspace.

The generators here turn what the loops make (checkpoints, previews, slabs) into files and say so; they do not
write to the store. Whoever drives them does.
"""

from collections.abc import Iterator

from seglib.events import Event
from seglib.store import Store
from seglib.store.runs import RunRow
from seglib.tasks.prediction import prediction_task
from seglib.tasks.training import Stop, training_task
from seglib.workspace import Workspace


def run_task(workspace: Workspace, store: Store, run: RunRow, stop: Stop) -> Iterator[Event]:
    """The events of a stored run; files appear in the workspace as it goes.

    stop: asked after every batch or slab. Raises SeglibError with a sentence for whatever a person can mend.
    """
    task = training_task if run.kind == "train" else prediction_task
    yield from task(workspace, store, run, stop)
