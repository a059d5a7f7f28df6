"""The promise of resuming: a training killed at any moment goes on to the numbers it would have had.

Real processes, killed with SIGKILL; what is compared is what the store holds afterwards.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seglib.checkpoints import load_checkpoint
from seglib.config import (
    BlockSplitConfig,
    CheckpointConfig,
    ComputeConfig,
    DataConfig,
    LengthConfig,
    PatchConfig,
    RandomSamplingConfig,
    RunConfig,
    UNet3DConfig,
)
from seglib.jobs.lease import is_dead
from seglib.jobs.manager import JobManager
from seglib.store import Store
from seglib.store.metrics import list_previews, points_since
from seglib.store.runs import checkpoints, get_run, interrupt_orphans
from seglib.workspace import ENVIRONMENT, Workspace, open_workspace
from tests.conftest import import_two_classes

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
EPOCHS, STEPS_PER_EPOCH = 6, 20

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of Unix")


def config() -> RunConfig:
    return RunConfig(
        name="Resumed",
        data=DataConfig(dataset=1, task="classes"),
        split=BlockSplitConfig(),
        patches=PatchConfig(shape=(4, 16, 16), batch_size=2),
        sampling=RandomSamplingConfig(per_epoch=2 * STEPS_PER_EPOCH),
        model=UNet3DConfig(depth=2, start_channels=4, norm="batch", dropout=0.2),
        length=LengthConfig(epochs=EPOCHS, seed=3),
        checkpoints=CheckpointConfig(interval=1),
        compute=ComputeConfig(device="cpu", threads=1),
    )


class Place:
    """A workspace with a data set, in which processes of their own train."""

    def __init__(self, folder: Path) -> None:
        self.workspace: Workspace = open_workspace(folder / "workspace")
        self.store = Store(self.workspace.database)
        assert import_two_classes(self.workspace, self.store, folder / "leaves") == 1
        self.settings = folder / "config.json"
        self.settings.write_text(config().model_dump_json())
        self.output = folder / "output.txt"

    def train(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, ENVIRONMENT: str(self.workspace.root), "PYTHONPATH": str(ROOT)}
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "seglib", "train", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, *arguments: str) -> None:
        """Trains to the end."""
        process = self.train(*arguments)
        assert process.wait(DEADLINE_S) == 0, self.output.read_text()
        assert get_run(self.store, 1).status == "finished"

    def kill_when(self, moment: Callable[[], bool], *arguments: str) -> None:
        """Trains until `moment` answers true, and kills the process then."""
        process = self.train(*arguments)
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not moment():
                assert process.poll() is None, f"it ended too early: {self.output.read_text()}"
                assert time.monotonic() < deadline, self.output.read_text()
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait(DEADLINE_S)
        assert process.returncode == -signal.SIGKILL

    def saved_epoch(self) -> int:
        found = checkpoints(self.store, 1)
        return found["last"].epoch if "last" in found else 0

    def numbers(self) -> dict[str, list[tuple[int, int, float | None]]]:
        """Every curve of the run as (step, epoch, value), by its name."""
        curves: dict[str, list[tuple[int, int, float | None]]] = {}
        for point in points_since(self.store, 1)[0]:
            curves.setdefault(point.name, []).append((point.step, point.epoch, point.value))
        return curves


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    place.finish(str(place.settings))
    yield place
    place.store.close()


def assert_same_run(place: Place, undisturbed: Place) -> None:
    found, expected = place.numbers(), undisturbed.numbers()
    steps = list(range(1, EPOCHS * STEPS_PER_EPOCH + 1))
    assert [step for step, *_ in expected["step/loss"]] == steps
    assert [epoch for _, epoch, _ in expected["val/dice"]] == list(range(1, EPOCHS + 1))
    assert found == expected
    shown = [[(row.step, row.layer) for row in list_previews(p.store, 1)] for p in (place, undisturbed)]
    assert shown[0] == shown[1]
    for kind in ("last", "best"):
        rows = [checkpoints(p.store, 1)[kind] for p in (place, undisturbed)]
        assert (rows[0].step, rows[0].score) == (rows[1].step, rows[1].score)
        mine, other = (load_checkpoint(p.workspace.checkpoint(1, kind)) for p in (place, undisturbed))
        assert all((mine.network[name] == weight).all() for name, weight in other.network.items())


def test_killed_after_its_third_epoch_a_run_resumes_to_the_same_numbers(place, undisturbed):
    place.kill_when(lambda: place.saved_epoch() >= 3, str(place.settings))
    row = get_run(place.store, 1)
    assert row.status == "running"
    assert is_dead(row.owner, row.heartbeat_at)
    assert interrupt_orphans(place.store, is_dead) == [1]
    assert get_run(place.store, 1).status == "interrupted"
    assert 3 <= place.saved_epoch() < EPOCHS
    place.finish("--resume", "1")
    assert get_run(place.store, 1).attempt == 2
    assert_same_run(place, undisturbed)


def test_killed_twice_in_the_middle_of_epochs_a_run_resumes_to_the_same_numbers(place, undisturbed):
    def written(steps: int) -> Callable[[], bool]:
        return lambda: get_run(place.store, 1).done >= steps if place.output.stat().st_size else False

    place.kill_when(written(1), str(place.settings))
    # The next program that starts finds the orphan.
    manager = JobManager(place.workspace, place.store)
    manager.start()
    manager.close()
    assert get_run(place.store, 1).status == "interrupted"
    place.kill_when(written(STEPS_PER_EPOCH * 3 // 2), "--resume", "1")
    assert interrupt_orphans(place.store, is_dead) == [1]
    place.finish("--resume", "1")
    assert_same_run(place, undisturbed)


def test_killed_right_after_a_checkpoint_file_appears_no_step_is_missing(place, undisturbed):
    """The file is there before the store knows of it: what was said before must be on disk by then."""
    last = place.workspace.checkpoint(1, "last")
    place.kill_when(last.exists, str(place.settings))
    assert interrupt_orphans(place.store, is_dead) == [1]
    saved = load_checkpoint(last)
    assert [step for step, *_ in place.numbers()["step/loss"]][: saved.step] == list(range(1, saved.step + 1))
    place.finish("--resume", "1")
    assert_same_run(place, undisturbed)
