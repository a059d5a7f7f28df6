"""A prediction as a job: labels equal to one pass, scores equal to counting, nothing left of failed ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import seglib.tasks.measuring
from seglib.checkpoints import load_checkpoint, save_checkpoint
from seglib.config import (
    ComputeConfig,
    LengthConfig,
    PatchConfig,
    CleaningConfig,
    PredictConfig,
    RandomSamplingConfig,
    TilesConfig,
    UNet3DConfig,
    VolumeSplitConfig,
)
from seglib.config.labels import Borders, LabelClass, LabelScheme
from seglib.data.normalise import between
from seglib.data.readers.base import SourceFile
from seglib.data.targets import learn
from seglib.data.volumes import TRUTH, open_labels, open_volume
from seglib.errors import CheckpointError, ConfigError, SeglibError
from seglib.events import Ended, Measured, Note, Progress, Started
from seglib.inference.predict import Predictor, decide, foreground_probabilities, predict_slabs
from seglib.ingest import ImportRequest, Item, import_dataset
from seglib.jobs.foreground import run_in_foreground
from seglib.jobs.submit import submit_prediction, submit_training
from seglib.models import build_model
from seglib.store import Store
from seglib.store.datasets import get_dataset
from seglib.store.runs import claim, create_run
from seglib.tasks import run_task
from seglib.tasks.measuring import Comparison
from seglib.tasks.labelling import PREDICTION_LAYER
from seglib.tasks.trained import TrainedModel, load_model
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
    return open_labels(workspace.prediction(run.id) / "labels.zarr", PREDICTION_LAYER)


def nothing_left(workspace) -> bool:
    return not any((workspace.root / "predictions").iterdir()) and not any((workspace.root / "scratch").iterdir())


def import_image(workspace, store, folder: Path, image) -> int:
    """Imports one unlabelled image and returns its volume's id."""
    path = folder / "new.tif"
    axes = "ZYX" if image.ndim == 3 else "ZCYX"
    tifffile.imwrite(path, image, photometric="minisblack", imagej=True, metadata={"axes": axes})
    request = ImportRequest(name="New", items=(Item("new", (SourceFile(path, path.name),)),))
    return get_dataset(store, import_dataset(workspace, store, request, isolated=False)).volumes[0].id


def one_pass(workspace, run_id, image, threshold):
    state = load_checkpoint(workspace.checkpoint(run_id, "best"))
    network = build_model(state.config.model, inputs=1, outputs=2)
    network.load_state_dict(state.network)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(state.normalisation.apply(image))[None])
    return decide(foreground_probabilities(logits, "sigmoid")[0].numpy(), "sigmoid", threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_one_tile_over_everything_is_one_pass(workspace, store, trained_run, tmp_path, threshold):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 24, 32)).astype(np.uint8)
    volume = import_image(workspace, store, tmp_path, image)
    run = prediction(store, trained_run, volume, cleaning=CleaningConfig(thresholds=(threshold,)))
    events = list(run_task(workspace, store, run, never))
    assert events == [Started(1), Progress(1, 1), Ended("finished")]
    expected = one_pass(workspace, trained_run, image[None], threshold)  # classes 1 and 2 have the values 1 and 2
    assert np.array_equal(predicted(workspace, run)[:], expected)
    assert len(np.unique(expected)) > 1


def test_scores_are_counted_over_the_whole_volume(workspace, store, trained_run, dataset):
    volume = get_dataset(store, dataset).volumes[1].id
    run = prediction(store, trained_run, volume, cleaning=CleaningConfig(thresholds=(0.3,)))
    events = list(run_task(workspace, store, run, never))
    assert events[0] == Started(2)
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


def test_stop_leaves_nothing(workspace, store, trained_run, tmp_path):
    volume = import_image(workspace, store, tmp_path, np.zeros((20, 24, 32), np.uint8))
    events = list(run_task(workspace, store, prediction(store, trained_run, volume), lambda: True))
    assert isinstance(events[-1], Ended)
    assert [type(event) for event in events] == [Started, Note, Progress, Ended]
    assert events[-1].reason == "stopped"
    assert nothing_left(workspace)


def test_an_abandoned_prediction_leaves_nothing(workspace, store, trained_run, dataset):
    run = prediction(store, trained_run, get_dataset(store, dataset).volumes[0].id)
    task = run_task(workspace, store, run, never)
    next(task)
    task.close()
    assert nothing_left(workspace)


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


def test_labels_that_exist_are_not_overwritten(workspace, store, trained_run, dataset):
    run = prediction(store, trained_run, get_dataset(store, dataset).volumes[0].id)
    list(run_task(workspace, store, run, never))
    before = predicted(workspace, run)[:]
    with pytest.raises(SeglibError, match="exists already"):
        list(run_task(workspace, store, run, never))
    assert np.array_equal(predicted(workspace, run)[:], before)


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


def test_label_values_beyond_16_bits_survive():
    class Left(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, -x], 1)

    predictor = Predictor(Left(), between([-1.0], [1.0]), "sigmoid", (1, 1, 1), CLASSES, torch.device("cpu"), half=None)
    model = TrainedModel(predictor, (1, 2, 2), (7, 70_000), ("a", "b"), (0.5, 0.5))
    written = {}
    image = np.array([1.0, -1.0, 1.0, -1.0], np.float32).reshape(1, 1, 2, 2)
    config = PredictConfig(run=1, volume=1)
    list(predict_labels(model, image, config, write=written.__setitem__, stop=never))
    assert written[0].ravel().tolist() == [7, 70_000, 7, 70_000]


def test_a_failure_while_writing_leaves_nothing(workspace, store, trained_run, dataset, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seglib.tasks.measuring, "count_confusion", fail)
    run = prediction(store, trained_run, get_dataset(store, dataset).volumes[0].id)
    refused(workspace, store, run, OSError, "No space left")


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
    slabs = predict_slabs(predictor, image, tile=(8, 24, 32), overlap=0.5, batch_size=2)
    expected = np.concatenate([decide(slab.probabilities, "sigmoid", tuned) for slab in slabs])
    assert np.array_equal(predicted(workspace, run)[:], expected)
