"""What tests share: a workspace that is never the home folder, stores that are closed, small labelled data."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import settings

from seglib.config import (
    BlockSplitConfig,
    ComputeConfig,
    DataConfig,
    LengthConfig,
    PatchConfig,
    PredictConfig,
    RandomSamplingConfig,
    RunConfig,
    UNet3DConfig,
)
from seglib.data.readers.base import SourceFile
from seglib.ingest import ImportRequest, Item, import_dataset
from seglib.store import Store, database, open_store
from seglib.workspace import ENVIRONMENT, Workspace, open_workspace

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def forget_services() -> None:
    """Empties the caches that keep one store for the whole process."""
    open_store.cache_clear()
    frame = sys.modules.get("pages.ui.frame")
    if frame is not None:
        frame.services.cache_clear()


@pytest.fixture(autouse=True)
def own_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Points the default workspace into the test's own folder, and closes every store the test opened."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "workspace"))
    opened: list[Store] = []
    initialise = Store.__init__

    def recorded(store: Store, path: Path) -> None:
        initialise(store, path)
        opened.append(store)

    monkeypatch.setattr(database.Store, "__init__", recorded)
    forget_services()
    yield
    forget_services()
    for store in opened:
        store.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """The store of the test's workspace: the same one pages and the command line open."""
    return open_store(workspace)


def write_two_classes(folder: Path, volumes: int = 2, side: int = 32) -> Path:
    """Writes `images/` and `labels/` with TIFF stacks (8, side, side): class 1 is bright, class 2 is brighter."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(1, volumes + 1):
        labels = np.zeros((8, side, side), np.uint8)
        labels[:, 4:16, 4:28] = 1
        labels[:, 20:28, 4:28] = 2
        image = (labels * 80 + random.integers(0, 40, labels.shape)).astype(np.uint8)
        for name, array in (("images", image), ("labels", labels)):
            tifffile.imwrite(folder / name / f"leaf{number}.tif", array, photometric="minisblack")
    return folder


def import_two_classes(
    workspace: Workspace,
    store: Store,
    folder: Path,
    *,
    name: str = "Leaves",
    labelled: bool = True,
    count: int = 2,
    side: int = 32,
) -> int:
    """Imports volumes of two classes, or of none, from two files in `folder`; returns the data set's id."""
    write_two_classes(folder, side=side)

    def source(kind: str, number: int) -> SourceFile:
        return SourceFile(folder / kind / f"leaf{2 - number % 2}.tif", f"{kind}/leaf{number}.tif")

    items = tuple(
        Item(f"leaf{number}", (source("images", number),), (source("labels", number),) if labelled else ())
        for number in range(1, count + 1)
    )
    request = ImportRequest(name=name, items=items, voxel_size_nm=(40.0, 10.0, 10.0), label_kind="classes")
    return import_dataset(workspace, store, request, isolated=False)


def small_config(dataset: int, **changes: object) -> RunConfig:
    """A training of two steps on the data set of two classes."""
    config = RunConfig(
        name="Small",
        data=DataConfig(dataset=dataset, task="classes"),
        split=BlockSplitConfig(),
        patches=PatchConfig(shape=(4, 16, 16), batch_size=1),
        sampling=RandomSamplingConfig(per_epoch=2),
        model=UNet3DConfig(depth=2, start_channels=2),
        length=LengthConfig(epochs=1),
        # More threads on so little data only wait for each other.
        compute=ComputeConfig(device="cpu", threads=1),
    )
    return config.model_copy(update=changes)


@pytest.fixture
def dataset(workspace: Workspace, store: Store, tmp_path: Path) -> int:
    """Id of a data set of two volumes (8, 32, 32) with the classes 1 and 2."""
    return import_two_classes(workspace, store, tmp_path / "leaves")


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with data set 1, runs 1 and 4 (finished), 2 (its prediction of volume 1) and 3 (failed)."""
    from seglib.jobs.foreground import run_in_foreground
    from seglib.jobs.submit import submit_prediction, submit_training
    from seglib.store.runs import claim, end_run

    folder = tmp_path_factory.mktemp("trained")
    workspace = open_workspace(folder / "workspace")
    store = Store(workspace.database)
    dataset = import_two_classes(workspace, store, folder / "leaves")

    def run_now(run: int) -> None:
        row = run_in_foreground(workspace, store, run, stop=lambda: False, on_event=lambda event: None)
        assert row.status == "finished", row.message

    run_now(submit_training(store, small_config(dataset, name="First")))
    run_now(submit_prediction(store, PredictConfig(run=1, volume=1, compute=ComputeConfig(device="cpu", threads=1))))
    failed = submit_training(store, small_config(dataset, name="Broken"))
    assert claim(store, failed, owner="nobody")
    end_run(store, failed, "failed", owner="nobody", message="leaf1.tif is *gone*: import it again.")
    run_now(submit_training(store, small_config(dataset, name="Second", length=LengthConfig(epochs=2))))
    store.close()
    return workspace.root


@pytest.fixture
def trained(trained_root: Path, tmp_path: Path) -> Workspace:
    """The test's own copy of `trained_root`, in the place where pages and the command line look."""
    shutil.copytree(trained_root, tmp_path / "workspace", dirs_exist_ok=True)
    return open_workspace(tmp_path / "workspace")
