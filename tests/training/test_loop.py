"""The training loop: what it says, how it ends, and that a resumed run is the run it would have been."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import seglib.training.setup
from seglib.checkpoints import load_checkpoint, save_checkpoint
from seglib.config import (
    AdamConfig,
    BlockSplitConfig,
    CheckpointConfig,
    ComputeConfig,
    ConstantConfig,
    CrossEntropyLossConfig,
    DataConfig,
    LengthConfig,
    NoAugmentationConfig,
    PatchConfig,
    PlateauConfig,
    RandomSamplingConfig,
    RunConfig,
    UNet2DConfig,
    UNet3DConfig,
    ValidationConfig,
)
from seglib.config.labels import LabelClass, LabelScheme
from seglib.data.normalise import between
from seglib.data.volumes import Volume
from seglib.errors import CheckpointError, ConfigError, OutOfMemory, TrainingError
from seglib.events import (
    CheckpointMade,
    Ended,
    EpochDone,
    Note,
    PreviewMade,
    Started,
    StepDone,
    ValidationDone,
    ValidationProgress,
)
from seglib.inference.deciding import decide
from seglib.inference.predict import Predictor, predict_slabs
from seglib.metrics.overlap import count_overlap, dice
from seglib.models import build_model, model_stride
from seglib.training.loop import train


def volume(shape=(8, 16, 16), name="leaf", seed=0, **changes) -> Volume:
    """Bright bars in noise; the bars are labelled 1."""
    labels = np.zeros(shape, np.uint8)
    labels[:, 3:9, 2::5] = 1
    noise = np.random.default_rng(seed).normal(0, 12, (1, *shape))
    image = (60 + 90 * labels[None] + noise).clip(0, 255).astype(np.uint8)
    return Volume(**{"name": name, "image": image, "labels": labels, "voxel_size_nm": (9.0, 4.0, 4.0), **changes})


def config(**changes) -> RunConfig:
    """Three epochs of three steps, in exact arithmetic on one thread."""
    parts = {
        "data": DataConfig(dataset=1),
        "split": BlockSplitConfig(axis="x", validation_share=0.3),
        "patches": PatchConfig(shape=(4, 8, 8), batch_size=2),
        "sampling": RandomSamplingConfig(per_epoch=6),
        "augmentation": NoAugmentationConfig(),
        "model": UNet3DConfig(depth=2, start_channels=2, dropout=0.3),
        "optimiser": AdamConfig(learning_rate=1e-2),
        "length": LengthConfig(epochs=3),
        "compute": ComputeConfig(device="cpu", precision="fp32", threads=1),
    }
    return RunConfig(**{**parts, **changes})


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def kinds(events) -> list[str]:
    return [
        type(e).__name__ + (f" {e.kind}" if isinstance(e, CheckpointMade) else "")
        for e in events
        if not isinstance(e, Note | ValidationProgress)
    ]


def test_events_come_in_order_and_a_best_checkpoint_after_the_first_validation():
    # Nothing is learned, so that no later validation is better than the first one.
    frozen = config(
        optimiser=AdamConfig(learning_rate=1e-30), model=UNet3DConfig(depth=2, start_channels=2, norm="instance")
    )
    events = kinds(train(frozen, [volume()]))
    epoch = ["StepDone"] * 3 + ["EpochDone", "ValidationDone", "PreviewMade"]
    assert events == [
        "Started",
        *epoch,
        "CheckpointMade best",
        "CheckpointMade last",
        *epoch,
        "CheckpointMade last",
        *epoch,
        "CheckpointMade last",
        "Ended",
    ]


def test_intervals_space_validations_and_checkpoints_and_the_last_epoch_has_both():
    spaced = config(
        length=LengthConfig(epochs=5),
        validation=ValidationConfig(interval=2),
        checkpoints=CheckpointConfig(interval=3),
    )
    events = list(train(spaced, [volume()]))
    assert [e.epoch for e in events if isinstance(e, EpochDone)] == [1, 2, 3, 4, 5]
    assert [e.epoch for e in events if isinstance(e, ValidationDone)] == [2, 4, 5]
    saved = [e.checkpoint.epoch for e in events if isinstance(e, CheckpointMade) and e.kind == "last"]
    assert saved == [3, 5]


def test_steps_are_counted_and_the_learning_rate_follows_the_schedule():
    steps = [e for e in train(config(), [volume()]) if isinstance(e, StepDone)]
    assert [e.step for e in steps] == list(range(1, 10))
    assert [e.epoch for e in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    expected = [1e-2 * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * n / 9))) for n in range(9)]
    assert [e.learning_rate for e in steps] == pytest.approx(expected)


def test_epoch_loss_is_the_mean_of_its_steps_and_the_best_score_never_falls():
    events = list(train(config(), [volume()]))
    losses = [e.loss for e in events if isinstance(e, StepDone)]
    epochs = [e.scores["loss"] for e in events if isinstance(e, EpochDone)]
    assert epochs == pytest.approx(np.reshape(losses, (3, 3)).mean(1))
    scores = [e.scores["dice"] for e in events if isinstance(e, ValidationDone)]
    best = [e.checkpoint.best_score for e in events if isinstance(e, CheckpointMade) and e.kind == "last"]
    assert best == np.maximum.accumulate(scores).tolist()


def test_best_can_be_chosen_by_iou():
    events = list(train(config(validation=ValidationConfig(best_by="iou")), [volume()]))
    first = next(e for e in events if isinstance(e, ValidationDone))
    best = next(e for e in events if isinstance(e, CheckpointMade))
    assert best.checkpoint.best_score == first.scores["iou"] < first.scores["dice"]


@pytest.mark.parametrize("kind", [UNet3DConfig, UNet2DConfig])
def test_a_tiny_volume_is_learned_by_heart(kind):
    shape = (4, 8, 16) if kind is UNet3DConfig else (1, 16, 16)
    learnt = config(
        model=kind(depth=2, start_channels=4),
        patches=PatchConfig(shape=shape, batch_size=2),
        sampling=RandomSamplingConfig(per_epoch=400),
        length=LengthConfig(epochs=1),
        split=BlockSplitConfig(axis="x", validation_share=0.3),
    )
    data = volume((8, 24, 24))
    events = list(train(learnt, [data]))
    state = next(e.checkpoint for e in events if isinstance(e, CheckpointMade) and e.kind == "last")
    network = build_model(learnt.model, inputs=1, outputs=1)
    network.load_state_dict(state.network)
    predictor = Predictor(
        network.eval(), state.normalisation, "sigmoid", model_stride(learnt.model), 1, torch.device("cpu"), half=None
    )
    image, labels = data.image[..., :16], data.labels[..., :16]
    slabs = predict_slabs(predictor, image, tile=shape, overlap=0.25, batch_size=2)
    found = np.concatenate([decide(slab.probabilities, "sigmoid", 0.5) for slab in slabs])
    assert dice(count_overlap(found, labels, 1))[0] > 0.95


def test_classes_are_learned_with_their_own_values_and_names():
    labels = volume().labels * 7
    labels[:, 12:] = 4
    scheme = LabelScheme(
        kind="classes", classes=(LabelClass(name="wall", values=(4,)), LabelClass(name="bar", values=(7,)))
    )
    data = config().data.model_copy(update={"task": "classes", "labels": scheme})
    events = list(train(config(loss=CrossEntropyLossConfig(), data=data), [volume(labels=labels)]))
    verdict = next(e for e in events if isinstance(e, ValidationDone))
    assert {"loss", "dice", "iou", "dice/wall", "dice/bar", "recall/wall", "dice_at_best_threshold"} <= set(
        verdict.scores
    )
    assert verdict.details["names"] == ["wall", "bar"]
    assert sum(map(sum, verdict.details["confusion"])) == 8 * 16 * 5  # x 11–15 validate
    preview = next(e for e in events if isinstance(e, PreviewMade))
    assert set(np.unique(preview.labels)) == {0, 1, 2}
    last = [e for e in events if isinstance(e, CheckpointMade)][-1].checkpoint
    assert (last.values, last.names) == ((4, 7), ("wall", "bar"))
    assert last.network["head.weight"].shape[0] == 3


def test_the_checkpoint_remembers_what_prediction_needs():
    last = [e for e in train(config(), [volume()]) if isinstance(e, CheckpointMade)][-1].checkpoint
    part = volume().image[..., :11]  # x 11–15 validate
    low, high = np.percentile(part, [0.5, 99.5])
    wanted = between([low], [high])
    assert last.normalisation.centre == pytest.approx(wanted.centre)
    assert last.normalisation.scale == pytest.approx(wanted.scale)
    assert (last.channels, last.voxel_size_nm, last.step, last.epoch) == (1, (9.0, 4.0, 4.0), 9, 3)


def asked(times: int):
    """A stop that says yes from the `times`-th question on."""
    left = iter(range(times - 1))
    return lambda: next(left, None) is None


def test_stop_ends_after_the_batch_with_everything_saved():
    events = list(train(config(), [volume()], stop=asked(2)))
    assert kinds(events)[1:] == ["StepDone", "StepDone", "CheckpointMade last", "Ended"]
    assert events[-1] == Ended("stopped", "Stopped after step 2 of 9; everything is saved.")
    assert events[-2].checkpoint.step == 2


def test_stop_during_validation_puts_it_off():
    events = list(train(config(), [volume()], stop=asked(3)))
    assert kinds(events)[-3:] == ["CheckpointMade last", "CheckpointMade last", "Ended"]
    assert not any(isinstance(e, ValidationDone) for e in events)
    assert "Stopped during validation" in next(e.text for e in reversed(events) if isinstance(e, Note))


def test_stop_while_making_up_for_a_validation_takes_no_step():
    stopped = list(train(config(), [volume()], stop=asked(3)))
    again = list(train(config(), [volume()], resume=stopped[-2].checkpoint, stop=asked(1)))
    assert kinds(again) == ["Started", "CheckpointMade last", "Ended"]
    assert again[-1].reason == "stopped"
    assert again[-2].checkpoint.step == 3


def saved_run(folder, settings_, *, volumes=(), stop=None, events_pulled=None, resume=None):
    """Pulls events and saves `last` checkpoints as a job does; events_pulled: breaks off after that many."""
    told, path = [], folder / "last.pt"
    for number, event in enumerate(train(settings_, volumes or [volume()], stop=stop, resume=resume), 1):
        if isinstance(event, CheckpointMade) and event.kind == "last":
            save_checkpoint(event.checkpoint, path)
        told.append(event)
        if number == events_pulled:
            break
    return told


def numbers(events) -> dict:
    """Everything a run is judged by, by kind and step."""
    found = {}
    for event in events:
        match event:
            case StepDone(step=step, loss=loss, learning_rate=rate):
                found["step", step] = (loss, rate)
            case EpochDone(step=step, scores=scores) | ValidationDone(step=step, scores=scores):
                found[type(event).__name__, step] = scores
            case PreviewMade(step=step, prediction=prediction):
                found["preview", step] = prediction.tobytes()
    return found


SETTINGS = {
    "cosine": config(),
    "constant": config(schedule=ConstantConfig(), model=UNet3DConfig(depth=2, start_channels=2, norm="batch")),
    "plateau": config(schedule=PlateauConfig(patience=0), validation=ValidationConfig(interval=2)),
    "sparse": config(
        checkpoints=CheckpointConfig(interval=2),
        model=UNet2DConfig(depth=2, start_channels=2, dropout=0.5),
        patches=PatchConfig(shape=(1, 8, 8), batch_size=2),
        sampling=RandomSamplingConfig(per_epoch=5),
    ),
}
undisturbed: dict[str, tuple] = {}


def expected_steps(found: dict) -> int:
    return len([key for key in found if key[0] == "step"])


def undisturbed_run(name):
    if name not in undisturbed:
        events = list(train(SETTINGS[name], [volume()]))
        final = [e for e in events if isinstance(e, CheckpointMade)][-1].checkpoint
        undisturbed[name] = numbers(events), final
    return undisturbed[name]


QUICK = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(name=st.sampled_from(sorted(SETTINGS)), stops=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_a_run_stopped_anywhere_and_resumed_from_disk_is_the_undisturbed_run(tmp_path, name, stops):
    expected, final = undisturbed_run(name)
    told, resume = [], None
    for times in [*stops, 10**6]:
        events = saved_run(tmp_path, SETTINGS[name], stop=asked(times), resume=resume)
        assert isinstance(events[0], Started)
        assert events[0].done == (resume.step if resume else 0)
        told += events
        torch.rand(5)  # whatever else the process draws must not matter
        resume = load_checkpoint(tmp_path / "last.pt")
        if events[-1].reason == "finished":
            break
    assert numbers(told) == expected
    assert len([e for e in told if isinstance(e, StepDone)]) == expected_steps(expected)
    assert all(torch.equal(value, final.network[key]) for key, value in resume.network.items())
    assert resume.best_score == final.best_score


@QUICK
@given(name=st.sampled_from(sorted(SETTINGS)), pulled=st.integers(1, 22))
def test_a_run_broken_off_anywhere_goes_on_from_its_last_checkpoint_as_if_undisturbed(tmp_path, name, pulled):
    (tmp_path / "last.pt").unlink(missing_ok=True)
    expected, final = undisturbed_run(name)
    broken = saved_run(tmp_path, SETTINGS[name], events_pulled=pulled)
    resume = load_checkpoint(tmp_path / "last.pt") if (tmp_path / "last.pt").exists() else None
    kept = resume.step if resume else 0
    rest = saved_run(tmp_path, SETTINGS[name], resume=resume)
    early = {key: value for key, value in numbers(broken).items() if key[1] <= kept}
    assert {**early, **numbers(rest)} == expected
    last = load_checkpoint(tmp_path / "last.pt")
    assert all(torch.equal(value, final.network[key]) for key, value in last.network.items())


def test_the_seed_changes_the_run():
    other = config(length=LengthConfig(epochs=3, seed=1))
    assert numbers(train(other, [volume()]))["step", 1] != undisturbed_run("cosine")[0]["step", 1]


def test_a_finished_run_that_is_resumed_has_nothing_to_do():
    final = undisturbed_run("cosine")[1]
    assert kinds(train(config(), [volume()], resume=final)) == ["Started", "Ended"]


def test_a_checkpoint_of_another_network_is_refused():
    final = undisturbed_run("cosine")[1]
    with pytest.raises(CheckpointError, match="another network"):
        list(train(config(model=UNet3DConfig(depth=2, start_channels=4)), [volume()], resume=final))


def test_a_loss_that_is_not_a_number_ends_the_run_with_advice():
    with (
        pytest.MonkeyPatch.context() as patched,
        pytest.raises(TrainingError, match=r"loss became nan at step 1.*learning rate.*1.0e-02"),
    ):
        broken = lambda logits, target: logits.sum() * np.nan  # noqa: E731
        patched.setattr("seglib.training.setup.build_loss", lambda *_, **__: broken)
        list(train(config(), [volume()]))


def test_voxels_that_are_no_number_count_as_black():
    image = volume().image.astype(np.float32)
    image[:, :, :, :11:2] = np.nan
    losses = [event.loss for event in train(config(), [volume(image=image)]) if isinstance(event, StepDone)]
    assert np.isfinite(losses).all()


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_said_with_what_to_change(monkeypatch, error):
    monkeypatch.setattr(seglib.training.setup, "build_model", lambda *_, **__: Failing(error))
    with pytest.raises(OutOfMemory, match="batch of 2 patches of 4 × 8 × 8 does not fit.*smaller batch"):
        list(train(config(), [volume()]))


def test_other_errors_of_torch_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(seglib.training.setup, "build_model", lambda *_, **__: Failing(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(train(config(), [volume()]))


def test_volumes_without_labels_or_of_other_channels_are_refused_by_name():
    with pytest.raises(ConfigError, match="b.tif has no labels"):
        list(train(config(), [volume(), volume(name="b.tif", labels=None)]))
    with pytest.raises(ConfigError, match=r"b.tif has 2 channel\(s\) but leaf has 1"):
        list(train(config(), [volume(), volume(name="b.tif", image=np.zeros((2, 8, 16, 16), np.uint8))]))
