"""Synthetic data sets: as many samples as asked for, the same as the generator's, all of them or nothing."""

import h5py
import numpy as np
import pytest

import seglib.ingest.making
from seglib.config.synthetic import OpticLobeConfig, RingImagesConfig, SyntheticConfig
from seglib.data.samples import make_sample, shape_of
from seglib.data.volumes import open_volume
from seglib.errors import DataError, WorkCancelled
from seglib.ingest import make_dataset, make_files
from seglib.store.datasets import get_dataset, list_datasets

SMALL = SyntheticConfig(sample=OpticLobeConfig(shape=(32, 32, 40)), training=3, validation=2, seed=0)
RINGS = SyntheticConfig(sample=RingImagesConfig(side=48), training=2, validation=1)


@pytest.mark.parametrize("config", [SMALL, RINGS], ids=["lobe", "rings"])
def test_a_data_set_holds_the_generators_samples_by_part(workspace, store, config):
    said = []
    dataset = get_dataset(
        store, make_dataset(workspace, store, config, name="Made", progress=lambda *news: said.append(news))
    )
    names = [f"training {n + 1:04d}" for n in range(config.training)]
    names += [f"validation {n + 1:04d}" for n in range(config.validation)]
    assert [volume.name for volume in dataset.volumes] == names
    assert [news[:2] for news in said] == [(n + 1, len(names)) for n in range(len(names))]
    assert dataset.labels.kind == "instances"
    seeds = [(config.seed, n) for n in range(config.training)]
    seeds += [(config.validation_seed, n) for n in range(config.validation)]
    for row, (seed, index) in zip(dataset.volumes, seeds, strict=True):
        volume = open_volume(workspace.volume(row.id))
        sample = make_sample(config.sample, seed=seed, index=index)
        assert row.shape_zyx == shape_of(config.sample)
        assert np.array_equal(volume.image[0], sample.image.astype(np.float16))
        assert np.array_equal(volume.labels[:], sample.ids)
        assert row.objects == len(np.unique(sample.ids)) - 1


def test_files_hold_what_the_toolkits_do(tmp_path):
    make_files(tmp_path / "out", SMALL, file_format="hdf5")
    paths = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.h5"))
    assert paths == [f"training/000{n}.h5" for n in range(3)] + [f"validation/000{n}.h5" for n in range(2)]
    sample = make_sample(SMALL.sample, seed=9999, index=1)
    with h5py.File(tmp_path / "out" / "validation" / "0001.h5") as file:
        assert file["vol_data"].dtype == file["vol_labels"].dtype == np.float16
        assert np.array_equal(file["vol_data"][:], sample.image.astype(np.float16))
        assert np.array_equal(file["vol_labels"][:], sample.ids > 0)
        assert np.array_equal(file["vol_ids"][:], sample.ids)
        for name, array in sample.geometry.items():
            assert np.array_equal(file[name][:], array)
        assert file["points"].shape == file["e_r"].shape


def test_zarr_files_are_volumes(tmp_path):
    make_files(tmp_path / "out", RINGS)
    volume = open_volume(tmp_path / "out" / "training" / "0001.ome.zarr")
    assert np.array_equal(volume.labels[:], make_sample(RINGS.sample, seed=0, index=1).ids)


@pytest.mark.parametrize("after", [0, 2])
def test_what_is_cancelled_leaves_nothing(workspace, store, tmp_path, after):
    done = []
    more = {"progress": lambda *news: done.append(news), "cancelled": lambda: len(done) >= after}
    with pytest.raises(WorkCancelled):
        make_dataset(workspace, store, SMALL, name="Made", **more)
    assert list_datasets(store) == []
    assert list((workspace.root / "scratch").iterdir()) == []
    done.clear()
    with pytest.raises(WorkCancelled):
        make_files(tmp_path / "out", SMALL, **more)
    assert [path for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        make_files(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]


def test_a_disk_too_small_is_said_before_anything_is_made(workspace, store, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(seglib.ingest.making.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"5 samples take about .* GB are free"):
        make_dataset(workspace, store, SMALL, name="Made")


def test_a_disk_that_fails_midway_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path, sample):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seglib.ingest.making, "_write_hdf5", full)
    with pytest.raises(DataError, match="No space left on device"):
        make_files(tmp_path / "out", SMALL, file_format="hdf5")
    assert [path for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"training": 0, "validation": 0}, "at least one"), ({"seed": 9999}, "same seed"), ({"seed": -1}, "seed")],
)
def test_what_makes_no_sense_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        SyntheticConfig(**changes)
    assert SyntheticConfig(training=1, validation=0, seed=9999).training == 1
