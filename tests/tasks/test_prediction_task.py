"""A prediction as a job: labels equal to one pass, scores equal to counting, nothing left of failed ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from scipy import ndimage

import seglib.inference.sweep
import seglib.tasks.labelling
import seglib.tasks.measuring
import seglib.tasks.prediction
from seglib.checkpoints import load_checkpoint, save_checkpoint
from seglib.config import (
    CleaningConfig,
    ComputeConfig,
    DataConfig,
    EnsembleConfig,
    LengthConfig,
    PatchConfig,
    PredictConfig,
    RandomSamplingConfig,
    TilesConfig,
    UNet3DConfig,
    VolumeSplitConfig,
    parse_predict_config,
    parse_run_config,
)
from seglib.config.labels import Borders, LabelClass, LabelScheme
from seglib.data.readers.base import SourceFile
from seglib.data.targets import learn
from seglib.data.volumes import TRUTH, open_labels, open_volume
from seglib.errors import CheckpointError, ConfigError, SeglibError
from seglib.events import Ended, Measured, Note, Progress, Started
from seglib.export.sources import PREDICTION
from seglib.inference.cleanup import cleaned
from seglib.inference.deciding import decide
from seglib.inference.predict import foreground_probabilities, predict_slabs
from seglib.ingest import ImportRequest, Item, import_dataset
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.submit import submit_cleaning, submit_prediction, submit_training
from seglib.models import build_model
from seglib.store import Store
from seglib.store.datasets import get_dataset
from seglib.store.runs import checkpoints, claim, create_run, end_run, get_run, set_checkpoint
from seglib.tasks import run_task
from seglib.tasks.measuring import Comparison
from seglib.tasks.trained import TrainedModel, load_model
from seglib.tasks.written import Unfinished, decoded, encoded, layer_group
from tests.conftest import small_config

HALF = TilesConfig(overlap=0.5)
EXACT = ComputeConfig(device="cpu", precision="fp32", threads=1)


@pytest.fixture
def trained_run(workspace, store, dataset):
    """Id of a run of one epoch whose tile covers a whole volume's depth and part of its plane."""
    config = small_config(
        dataset,
        patches=PatchConfig(shape=(8, 24, 32), batch_size=1),
        sampling=RandomSamplingConfig(per_epoch=4),
        model=UNet3DConfig(depth=2, start_channels=2, norm="group"),
        length=LengthConfig(epochs=1),
        compute=EXACT,
    )
    run = submit_training(store, config)
    assert run_in_foreground(workspace, store, run, stop=never, on_event=lambda event: None).status == "finished"
    return run


def never() -> bool:
    return False


def prediction(store: Store, run: int, volume: int, **changes):
    config = PredictConfig(**{"run": run, "volume": volume, "compute": EXACT, "tiles": HALF, **changes})
    return claim(store, submit_prediction(store, config), owner="me")


def predicted(workspace, run):
    return open_labels(workspace.prediction(run.id) / "labels.zarr", PREDICTION)


def nothing_left(workspace) -> bool:
    """Whether there are no labels, and no work in progress where it would not be found again."""
    made = (workspace.root / "predictions").glob("*/labels.zarr")
    return not any(made) and not any((workspace.root / "scratch").iterdir())


def import_image(workspace, store, folder: Path, image, voxel_size_nm=None) -> int:
    """Imports one unlabelled image and returns its volume's id."""
    path = folder / "new.tif"
    axes = "ZYX" if image.ndim == 3 else "ZCYX"
    tifffile.imwrite(path, image, photometric="minisblack", imagej=True, metadata={"axes": axes})
    request = ImportRequest(
        name="New", items=(Item("new", (SourceFile(path, path.name),)),), voxel_size_nm=voxel_size_nm
    )
    return get_dataset(store, import_dataset(workspace, store, request, isolated=False)).volumes[0].id


def one_pass(workspace, run_id, image, threshold):
    state = load_checkpoint(workspace.checkpoint(run_id, "best"))
    network = build_model(state.config.model, inputs=1, outputs=2)
    network.load_state_dict(state.network)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(state.normalisation.apply(image))[None])
    kept = encoded(foreground_probabilities(logits, "sigmoid")[0], "uint8")
    return decide(decoded(kept), "sigmoid", threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_one_tile_over_everything_is_one_pass(workspace, store, trained_run, tmp_path, threshold):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 24, 32)).astype(np.uint8)
    volume = import_image(workspace, store, tmp_path, image)
    run = prediction(store, trained_run, volume, cleaning=CleaningConfig(thresholds=(threshold,)))
    events = list(run_task(workspace, store, run, never))
    told = [event for event in events if not isinstance(event, Note)]
    assert told == [Started(2), Progress(1, 2), Progress(1, 2), Progress(2, 2), Ended("finished")]
    expected = one_pass(workspace, trained_run, image[None], threshold)  # classes 1 and 2 have the values 1 and 2
    assert np.array_equal(predicted(workspace, run)[:], expected)
    assert len(np.unique(expected)) > 1


def test_scores_are_counted_over_the_whole_volume(workspace, store, trained_run, dataset):
    volume = get_dataset(store, dataset).volumes[1].id
    run = prediction(store, trained_run, volume, cleaning=CleaningConfig(thresholds=(0.3,)))
    events = list(run_task(workspace, store, run, never))
    assert events[0] == Started(3 + 1)
    found, truth = predicted(workspace, run)[:], open_labels(workspace.volume(volume), TRUTH)[:]
    both, either = ([int(how(found == k, truth == k).sum()) for k in (1, 2)] for how in (np.logical_and, np.logical_or))
    sizes = [int((found == k).sum() + (truth == k).sum()) for k in (1, 2)]
    (measured,) = [event.scores for event in events if isinstance(event, Measured)]
    dice = [2 * b / s for b, s in zip(both, sizes, strict=True)]
    assert measured["dice/class 1"] == pytest.approx(dice[0])
    assert measured["dice/class 2"] == pytest.approx(dice[1])
    assert measured["dice"] == pytest.approx(np.mean(dice))
    assert measured["iou"] == pytest.approx(np.mean([b / e for b, e in zip(both, either, strict=True)]))
    assert any("learned from one part of this volume" in event.text for event in events if isinstance(event, Note))


def test_scores_come_before_the_end_and_the_end_after_the_file(workspace, store, trained_run, dataset):
    run = prediction(store, trained_run, get_dataset(store, dataset).volumes[0].id)
    for event in run_task(workspace, store, run, never):
        if isinstance(event, Measured | Ended):
            assert predicted(workspace, run).shape == (8, 32, 32)
    assert not any((workspace.root / "scratch").iterdir())


def blocks_of_planes(monkeypatch):
    """Rows of tiles come out one by one, and slabs of labels plane by plane."""
    monkeypatch.setattr(seglib.inference.sweep, "READ_PLANES", 1)
    monkeypatch.setattr(seglib.tasks.labelling, "AT_ONCE", 1)


class Counted:
    """A stop that is asked for at the n-th look."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


SMALL = TilesConfig(window=(8, 16, 16), overlap=0.25)


@pytest.mark.parametrize("at", [1, 2, 4, 6, 9])
@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_a_prediction_goes_on_where_it_ended(workspace, store, trained_run, tmp_path, monkeypatch, at, ending):
    blocks_of_planes(monkeypatch)
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 32)).astype(np.uint8)
    volume = import_image(workspace, store, tmp_path, image)
    options = {
        "tiles": SMALL,
        "ensemble": EnsembleConfig(uncertainty="entropy"),
        "cleaning": CleaningConfig(smallest=3),
    }
    whole = prediction(store, trained_run, volume, **options)
    list(run_task(workspace, store, whole, never))
    run = prediction(store, trained_run, volume, **options)
    if ending == "stopped":
        events = list(run_task(workspace, store, run, Counted(at)))
        assert events[-1] == Ended("stopped", "Stopped; what was predicted is kept. Resume to go on.")
    else:
        task = run_task(workspace, store, run, never)
        for _ in range(4 + at):
            next(task)
        task.close()
    assert not (workspace.prediction(run.id) / "labels.zarr").exists()
    again = list(run_task(workspace, store, run, never))
    assert again[-1] == Ended("finished")
    started = next(event for event in again if isinstance(event, Started))
    assert started.done > 0
    for layer in ("probabilities", "uncertainty"):
        one, other = (layer_group(workspace.prediction(one.id), layer)["0"][:] for one in (whole, run))
        assert np.array_equal(one, other)
    assert np.array_equal(predicted(workspace, whole)[:], predicted(workspace, run)[:])
    assert not (workspace.prediction(run.id) / "unfinished").exists()


def test_what_was_begun_with_another_checkpoint_is_begun_anew(workspace, store, trained_run, tmp_path, monkeypatch):
    blocks_of_planes(monkeypatch)
    volume = import_image(workspace, store, tmp_path, np.zeros((20, 24, 32), np.uint8))
    run = prediction(store, trained_run, volume, tiles=SMALL)
    list(run_task(workspace, store, run, Counted(2)))
    path = workspace.checkpoint(trained_run, "best")
    sha = save_checkpoint(replace(load_checkpoint(path), step=99), path)
    row = checkpoints(store, trained_run)["best"]
    set_checkpoint(store, replace(row, sha256=sha))
    events = list(run_task(workspace, store, run, never))
    assert next(event for event in events if isinstance(event, Started)).done == 0
    assert events[-1] == Ended("finished")


def test_thresholds_and_clean_up_change_without_predicting_again(workspace, store, trained_run, dataset, monkeypatch):
    volume = get_dataset(store, dataset).volumes[0].id
    run = prediction(store, trained_run, volume, cleaning=CleaningConfig(thresholds=(0.9,)))
    list(run_task(workspace, store, run, never))
    probabilities = layer_group(workspace.prediction(run.id), "probabilities")["0"][:]
    monkeypatch.setattr(seglib.tasks.prediction, "sweep", None)
    for cleaning in (CleaningConfig(thresholds=(0.4, 0.2)), CleaningConfig(thresholds=(0.4,), smallest=30, holes=10)):
        end_run(store, run.id, "finished", owner="me")
        submit_cleaning(store, run.id, cleaning)
        run = claim(store, run.id, owner="me")
        assert run.device == "labels"
        events = list(run_task(workspace, store, run, never))
        assert events[-1] == Ended("finished")
        assert any(isinstance(event, Measured) for event in events)
        ids = decide(
            decoded(probabilities), "sigmoid", cleaning.thresholds * (1 if len(cleaning.thresholds) == 2 else 2)
        )
        expected = cleaned(lambda _, ids=ids: ids, 1, cleaning, lambda: None)(0)
        assert np.array_equal(predicted(workspace, run)[:], expected)
    assert parse_predict_config(get_run(store, run.id).config).cleaning == cleaning


def test_without_kept_probabilities_thresholds_cannot_be_changed(workspace, store, trained_run, dataset):
    run = prediction(store, trained_run, get_dataset(store, dataset).volumes[0].id, keep="classes")
    list(run_task(workspace, store, run, never))
    assert sorted(path.name for path in workspace.prediction(run.id).iterdir()) == ["labels.zarr", "result.json"]
    end_run(store, run.id, "finished", owner="me")
    with pytest.raises(ConfigError, match="kept no probabilities"):
        submit_cleaning(store, run.id, CleaningConfig())


def test_kept_layers_are_images_with_coarser_copies(workspace, store, trained_run, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (2, 24, 700)).astype(np.uint8)
    volume = import_image(workspace, store, tmp_path, image, voxel_size_nm=(40.0, 10.0, 10.0))
    run = prediction(store, trained_run, volume, keep="float16", ensemble=EnsembleConfig(uncertainty="entropy"))
    list(run_task(workspace, store, run, never))
    found = open_volume(workspace.prediction(run.id) / "probabilities.zarr")
    assert found.channel_names == ("class 1", "class 2")
    assert (found.image.dtype, found.image.shape) == (np.float16, (2, 2, 24, 700))
    for layer in ("probabilities", "uncertainty"):
        group = layer_group(workspace.prediction(run.id), layer)
        full, half = group["0"][:].astype(np.float32), group["1"][:].astype(np.float32)
        assert half.shape[1:] == (2, 12, 350)
        means = full.reshape(-1, 2, 12, 2, 350, 2).mean((3, 5))
        assert np.abs(half - means).max() <= (0.002 if layer == "probabilities" else 1)
    labels = zarr.open_group(str(workspace.prediction(run.id) / "labels.zarr"), mode="r")["labels/prediction"]
    assert labels["1"].shape == (2, 12, 350)


def test_a_volume_of_another_voxel_size_is_predicted_at_the_size_the_run_knows(workspace, store, trained_run, tmp_path):
    """Twice as fine in the plane: what comes out is what comes out of the coarser volume, on the finer grid."""
    coarse = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(8, 24, 32)), 2)
    coarse = np.interp(coarse, (coarse.min(), coarse.max()), (0, 255)).astype(np.uint8)
    fine = coarse.repeat(2, 1).repeat(2, 2)
    found = {}
    for name, image, size in (("coarse", coarse, (40.0, 10.0, 10.0)), ("fine", fine, (40.0, 5.0, 5.0))):
        (tmp_path / name).mkdir()
        volume = import_image(workspace, store, tmp_path / name, image, voxel_size_nm=size)
        run = prediction(store, trained_run, volume, cleaning=CleaningConfig(thresholds=(0.5,)))
        events = list(run_task(workspace, store, run, never))
        said = any(
            "predicted at that size (8 × 24 × 32 voxels)" in event.text for event in events if isinstance(event, Note)
        )
        assert said == (name == "fine")
        found[name] = layer_group(workspace.prediction(run.id), "probabilities")["0"][:].astype(float)
        assert predicted(workspace, run).shape == image.shape
    blocks = found["fine"].reshape(2, 8, 24, 2, 32, 2).mean((3, 5))
    assert np.abs(blocks - found["coarse"]).mean() < 10
    other = prediction(store, trained_run, volume, resample=False)
    events = list(run_task(workspace, store, other, never))
    assert any("predicted as they are" in event.text for event in events if isinstance(event, Note))


def test_folds_predict_together(workspace, store, trained_run, dataset):
    volume = get_dataset(store, dataset).volumes[0].id
    twin = submit_training(store, parse_run_config(get_run(store, trained_run).config).model_copy(
        update={"length": LengthConfig(epochs=1, seed=5)}))  # fmt: skip
    run_in_foreground(workspace, store, twin, stop=never, on_event=lambda event: None)
    each = []
    for main, more in ((trained_run, ()), (twin, ()), (trained_run, (twin,))):
        run = prediction(store, main, volume, ensemble=EnsembleConfig(runs=more))
        list(run_task(workspace, store, run, never))
        each.append(layer_group(workspace.prediction(run.id), "probabilities")["0"][:].astype(float))
    assert np.abs(each[0] - each[1]).max() > 1
    assert np.abs((each[0] + each[1]) / 2 - each[2]).max() <= 1


def test_runs_of_other_classes_cannot_predict_together(workspace, store, trained_run, dataset):
    other = submit_training(store, small_config(dataset, data=DataConfig(dataset=dataset, task="foreground")))
    run_in_foreground(workspace, store, other, stop=never, on_event=lambda event: None)
    run = prediction(store, trained_run, 1, ensemble=EnsembleConfig(runs=(other,)))
    refused(
        workspace, store, run, ConfigError, f"Run {other} cannot predict together with run {trained_run}: .*classes"
    )


def test_disagreement_of_one_look_is_refused(workspace, store, trained_run, dataset):
    run = prediction(store, trained_run, 1, ensemble=EnsembleConfig(uncertainty="disagreement"))
    refused(workspace, store, run, ConfigError, "takes several runs or test-time augmentation")


def test_a_full_disk_is_told_and_what_was_done_is_kept(workspace, store, trained_run, tmp_path, monkeypatch):
    blocks_of_planes(monkeypatch)
    volume = import_image(workspace, store, tmp_path, np.zeros((40, 24, 32), np.uint8))
    run = prediction(store, trained_run, volume, tiles=SMALL)
    written, note = [], Unfinished.note

    def full(unfinished, kept):
        written.append(kept)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        note(unfinished, kept)

    monkeypatch.setattr(Unfinished, "note", full)
    with pytest.raises(SeglibError, match=r"disk is full.*kept.*resume"):
        list(run_task(workspace, store, run, never))
    monkeypatch.setattr(Unfinished, "note", note)
    again = list(run_task(workspace, store, run, never))
    assert next(event for event in again if isinstance(event, Started)).done > 0
    assert again[-1] == Ended("finished")


def refused(workspace, store, run, error, match) -> None:
    with pytest.raises(error, match=match):
        list(run_task(workspace, store, run, never))
    assert nothing_left(workspace)


def test_another_number_of_channels_is_refused(workspace, store, trained_run, tmp_path):
    volume = import_image(workspace, store, tmp_path, np.zeros((4, 3, 24, 32), np.uint8))
    run = prediction(store, trained_run, volume)
    refused(workspace, store, run, ConfigError, r"volume has 3 channel\(s\).*trained on 1")


def test_a_run_without_checkpoint_is_refused(workspace, store, dataset):
    config = small_config(dataset).model_dump(mode="json")
    untrained = create_run(store, "train", name="n", config=config, device="cpu")
    run = prediction(store, untrained, 1)
    refused(workspace, store, run, CheckpointError, f"Run {untrained} has no best checkpoint yet")


def test_a_missing_or_damaged_checkpoint_file_is_refused(workspace, store, trained_run):
    path = workspace.checkpoint(trained_run, "best")
    path.write_bytes(path.read_bytes()[:-100])
    refused(workspace, store, prediction(store, trained_run, 1), CheckpointError, "best.pt is damaged or cut short")
    path.unlink()
    refused(workspace, store, prediction(store, trained_run, 1), CheckpointError, "no checkpoint best.pt")


def test_a_checkpoint_that_another_run_wrote_is_refused(workspace, store, trained_run):
    best = workspace.checkpoint(trained_run, "best")
    save_checkpoint(replace(load_checkpoint(best), step=99), best)
    refused(workspace, store, prediction(store, trained_run, 1), CheckpointError, "checksum differs")


@pytest.mark.parametrize(
    ("held_out", "sentence"), [(True, "did not learn from it"), (False, "learned from this volume")]
)
def test_scores_say_whether_the_run_knew_the_volume(workspace, store, dataset, held_out, sentence):
    config = small_config(dataset)
    config = config.model_copy(update={"split": VolumeSplitConfig()})
    run = submit_training(store, config)
    seen = []
    run_in_foreground(workspace, store, run, stop=never, on_event=seen.append)
    volumes = [volume.id for volume in get_dataset(store, dataset).volumes]
    # Two groups, one held out; which one follows from the seed.
    validated = int(np.random.default_rng([0, 1]).permutation(2)[0])
    volume = volumes[validated] if held_out else volumes[1 - validated]
    events = list(run_task(workspace, store, prediction(store, run, volume), never))
    assert any(sentence in event.text for event in events if isinstance(event, Note))


# ---------------------------------------------------------------- comparison with labels

MODEL = TrainedModel(predictor=None, tile=(1, 8, 8), values=(4, 6), names=("wall", "pore"), thresholds=(0.5, 0.5))


def compared(truth, planes, scheme, task="classes", model=MODEL, slab=1, surfaces=False):
    """Scores of predicted planes against labels, handed over in slabs."""
    comparison = Comparison(truth, scheme, task, model, (30.0, 10.0, 10.0))
    for z in range(0, len(planes), slab):
        comparison.add(z, planes[z : z + slab])
    *_, measured = [event for event in comparison.measured(planes, surfaces=surfaces) if isinstance(event, Measured)]
    return measured.scores, comparison.extent


def test_classes_are_compared_by_name_merged_values_and_all():
    truth = np.array([[[0, 1, 2, 9, 3, 7]]], np.uint8)
    planes = np.array([[[0, 4, 4, 6, 6, 0]]], np.uint8)
    scheme = LabelScheme(
        kind="classes",
        classes=(LabelClass(name="pore", values=(9,)), LabelClass(name="wall", values=(1, 2)),
                 LabelClass(name="unknown to the model", values=(3,))),
        ignore=(7,),
    )  # fmt: skip
    scores, extent = compared(truth, planes, scheme)
    # wall is right in both voxels; pore once rightly found, once where the truth is another class.
    assert scores["dice/wall"] == 1.0
    assert scores["dice/pore"] == pytest.approx(2 / 3)
    assert extent == "all annotated voxels of the volume"
    other = LabelScheme(kind="classes", classes=(LabelClass(name="a", values=(1,)), LabelClass(name="b", values=(2,))))
    assert not Comparison(truth, other, "classes", MODEL, (1.0, 1.0, 1.0)).comparable


def test_one_class_on_both_sides_is_compared_whatever_it_is_called():
    single = TrainedModel(predictor=None, tile=(1, 8, 8), values=(255,), names=("foreground",), thresholds=(0.5,))
    truth = np.array([[[0, 3, 3, 8]]], np.uint16)
    planes = np.array([[[0, 255, 255, 255]]], np.uint8)
    scheme = LabelScheme(kind="instances", ignore=(8,))
    scores, _ = compared(truth, planes, scheme, "foreground", single)
    assert (scores["dice"], scores["iou"], scores["recall"], scores["accuracy"]) == (1.0, 1.0, 1.0, 1.0)


def test_borders_are_compared_alike_however_the_slabs_are_cut():
    truth = np.random.default_rng(0).integers(0, 3, (3, 4, 4)).repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    scheme = LabelScheme(kind="instances", borders=Borders(width=1))
    model = TrainedModel(
        predictor=None, tile=(1, 8, 8), values=(1, 2), names=("object", "border"), thresholds=(0.5, 0.5)
    )
    planes = learn(truth, scheme, "classes")
    for slab in (1, 5, 12):
        scores, _ = compared(truth, planes, scheme, model=model, slab=slab)
        assert (scores["dice/object"], scores["dice/border"]) == (1.0, 1.0)


def test_objects_are_matched_with_the_labelled_ones_without_what_was_not_annotated():
    """Of three labelled objects one is found, two are found as one, and a made-up one lies where nothing counts."""
    truth = np.zeros((2, 6, 20), np.uint16)
    truth[:, 1:5, 1:5], truth[:, 1:5, 7:9], truth[:, 1:5, 9:12], truth[:, 0:6, 15:20] = 4, 7, 9, 8
    planes = np.where(np.isin(truth, (4, 7, 9)), 255, 0).astype(np.uint8)
    planes[:, 2:4, 16:18] = 255
    single = TrainedModel(predictor=None, tile=(1, 8, 8), values=(255,), names=("foreground",), thresholds=(0.5,))
    scheme = LabelScheme(kind="instances", ignore=(8,))
    scores, _ = compared(truth, planes, scheme, "foreground", single, surfaces=True)
    assert scores["dice"] == 1.0
    assert (scores["objects/true_objects"], scores["objects/predicted_objects"]) == (3, 2)
    # The pair of 2 and 3 columns overlaps the larger one by 3/5.
    assert scores["objects/f1@0.5"] == pytest.approx(2 * 2 / 5)
    assert scores["objects/f1@0.75"] == pytest.approx(2 * 1 / 5)
    assert scores["objects/voi_split"] == 0.0
    assert scores["objects/voi_merge"] > 0.0
    assert scores["hausdorff95"] == 0.0


def test_the_thresholds_of_the_validation_part_are_used_where_none_is_given(workspace, store, trained_run, dataset):
    volume = get_dataset(store, dataset).volumes[0].id
    tuned = load_checkpoint(workspace.checkpoint(trained_run, "best")).thresholds
    assert len(tuned) == 2
    run = prediction(store, trained_run, volume)
    events = list(run_task(workspace, store, run, never))
    assert any(f"class 1 above {tuned[0]:g}" in event.text for event in events if isinstance(event, Note))
    image = open_volume(workspace.volume(volume)).image[:]
    state = load_checkpoint(workspace.checkpoint(trained_run, "best"))
    predictor = load_model(state, PredictConfig(run=1, volume=1, compute=EXACT)).predictor
    kept = layer_group(workspace.prediction(run.id), "probabilities")["0"][:]
    assert np.array_equal(predicted(workspace, run)[:], decide(decoded(kept), "sigmoid", tuned))
    (slab,) = predict_slabs(predictor, image, tile=(8, 32, 32), overlap=0.5, batch_size=2)
    # The prediction's tiles are smaller than the volume, the norm is over groups.
    assert np.abs(decoded(kept) - slab.probabilities).mean() < 0.05
