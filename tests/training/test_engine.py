"""What a run does beside learning: lengths, patience, gathered batches, averages, new starts, too little memory."""

import numpy as np
import pytest
import torch

import seglib.training.step
from seglib.checkpoints import load_checkpoint, save_checkpoint
from seglib.config import (
    AdamConfig,
    BCELossConfig,
    CheckpointConfig,
    ComputeConfig,
    ConstantConfig,
    LengthConfig,
    PatchConfig,
    RandomSamplingConfig,
    UNet3DConfig,
    ValidationConfig,
    WatchConfig,
)
from seglib.errors import OutOfMemory, TrainingError
from seglib.events import CheckpointMade, EpochDone, Restarted, Started, StepDone, ValidationDone, Warned
from seglib.training.loop import train
from seglib.training.setup import prepare
from tests.training.test_loop import asked, config, numbers, saved_run, volume


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def last(events):
    return [event.checkpoint for event in of(CheckpointMade, events) if event.kind == "last"][-1]


def test_a_length_in_iterations_decides_and_intervals_may_count_them():
    settings = config(
        length=LengthConfig(epochs=1, iterations=8),
        validation=ValidationConfig(interval=3, unit="iterations"),
        checkpoints=CheckpointConfig(interval=5, unit="iterations"),
    )
    events = list(train(settings, [volume()]))
    assert of(Started, events)[0].total == 8
    assert [event.step for event in of(ValidationDone, events)] == [3, 6, 8]
    assert [event.step for event in of(EpochDone, events)] == [3, 6, 8]
    saved = [event.checkpoint.step for event in of(CheckpointMade, events) if event.kind == "last"]
    assert saved == [5, 8]
    assert of(StepDone, events)[-1].epoch == 3


def test_a_run_ends_early_when_its_patience_is_over_and_says_so():
    frozen = config(
        optimiser=AdamConfig(learning_rate=1e-30),
        model=UNet3DConfig(depth=2, start_channels=2, norm="instance"),
        length=LengthConfig(epochs=50, patience=4),
    )
    events = list(train(frozen, [volume()]))
    assert len(of(ValidationDone, events)) == 5
    assert events[-1].reason == "finished"
    assert "last 4 validations were no better" in events[-1].text
    longer = frozen.model_copy(update={"length": LengthConfig(epochs=60, patience=4)})
    more = list(train(longer, [volume()], resume=last(events)))
    assert len(of(ValidationDone, more)) == 4


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_batches_gathered_over_a_step_are_one_larger_batch(average):
    """With a loss that is a mean over voxels and no batch norm, two batches of two are one of four."""
    shared = {
        "loss": BCELossConfig(),
        "model": UNet3DConfig(depth=2, start_channels=2, norm="instance", dropout=0),
        "optimiser": AdamConfig(learning_rate=1e-3, average=average),
        "sampling": RandomSamplingConfig(per_epoch=8),
        "schedule": ConstantConfig(),
    }
    gathered = list(
        train(config(patches=PatchConfig(shape=(4, 8, 8), batch_size=2, accumulation=2), **shared), [volume()])
    )
    whole = list(train(config(patches=PatchConfig(shape=(4, 8, 8), batch_size=4), **shared), [volume()]))
    losses = [[event.loss for event in of(StepDone, events)] for events in (gathered, whole)]
    assert len(losses[0]) == 6
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    norms = [[event.gradient_norm for event in of(StepDone, events)] for events in (gathered, whole)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert of(StepDone, gathered)[0].patches == 4


def test_gradients_are_clipped_and_their_norm_is_told_as_it_was():
    free = of(StepDone, train(config(), [volume()]))
    clipped = of(StepDone, train(config(optimiser=AdamConfig(learning_rate=1e-2, clip=1e-6)), [volume()]))
    assert free[0].gradient_norm == pytest.approx(clipped[0].gradient_norm)
    assert clipped[0].gradient_norm > 1e-3
    assert [event.loss for event in free] != [event.loss for event in clipped]


def test_with_averaged_weights_the_average_is_judged_and_kept_and_what_learns_goes_on_exactly(tmp_path):
    settings = config(optimiser=AdamConfig(learning_rate=1e-2, average=0.8))
    plain, averaged = list(train(config(), [volume()])), list(train(settings, [volume()]))
    assert [e.loss for e in of(StepDone, plain)] == [e.loss for e in of(StepDone, averaged)]
    final = last(averaged)
    assert all(torch.equal(value, last(plain).network[name]) for name, value in final.learning.items())
    assert not torch.equal(final.network["head.weight"], final.learning["head.weight"])
    told = saved_run(tmp_path, settings, stop=asked(4))
    told += saved_run(tmp_path, settings, resume=load_checkpoint(tmp_path / "last.pt"))
    assert numbers(told) == numbers(averaged)
    again = load_checkpoint(tmp_path / "last.pt")
    assert all(torch.equal(value, final.network[name]) for name, value in again.network.items())


@pytest.mark.parametrize("layout", ["on", "off"])
def test_the_order_in_memory_changes_nothing_but_rounding(layout):
    exact = [event.loss for event in of(StepDone, train(config(), [volume()]))]
    compute = ComputeConfig(device="cpu", precision="fp32", threads=1, channels_last=layout)
    found = [event.loss for event in of(StepDone, train(config(compute=compute), [volume()]))]
    assert found == pytest.approx(exact, rel=1e-3)


def test_a_trial_of_orders_in_memory_leaves_the_network_and_random_numbers_alone(monkeypatch):
    monkeypatch.setattr("seglib.training.arrangement.LEAST_VOXELS", 1)
    tried = config(compute=ComputeConfig(device="cpu", precision="fp32", threads=1, channels_last="auto"))
    weights = [prepare(settings, [volume()], resume=None).network.state_dict() for settings in (config(), tried)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any("channels last" in event.text for event in train(tried, [volume()]) if hasattr(event, "text"))


def memory_for(most, real=seglib.training.step._backward):
    """A backward pass that has no memory for more than `most` patches."""

    def backward(setup, images, target, *, share):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(setup, images, target, share=share)

    return backward


def test_where_memory_runs_out_a_step_is_made_in_halves_and_learns_the_same(monkeypatch, tmp_path):
    settings = config(
        loss=BCELossConfig(),
        model=UNet3DConfig(depth=2, start_channels=2, norm="instance", dropout=0),
        patches=PatchConfig(shape=(4, 8, 8), batch_size=4),
        sampling=RandomSamplingConfig(per_epoch=8),
    )
    roomy = list(train(settings, [volume()]))
    monkeypatch.setattr(seglib.training.step, "_backward", memory_for(1))
    tight = list(train(settings, [volume()]))
    warned = [event.text for event in of(Warned, tight)]
    assert ["2 patch(es)" in warned[0], "1 patch(es)" in warned[1], len(warned)] == [True, True, 2]
    assert "GB" in warned[0]
    losses = [[event.loss for event in of(StepDone, events)] for events in (roomy, tight)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # A resumed run does not run into it again.
    save_checkpoint(last(tight), tmp_path / "last.pt")
    longer = settings.model_copy(update={"length": LengthConfig(epochs=4)})
    more = list(train(longer, [volume()], resume=load_checkpoint(tmp_path / "last.pt")))
    assert len(of(StepDone, more)) == 2
    assert not of(Warned, more)


def test_where_memory_runs_out_a_run_may_fail_with_what_was_used_and_what_to_do(monkeypatch):
    monkeypatch.setattr(seglib.training.step, "_backward", memory_for(1))
    with pytest.raises(OutOfMemory, match=r"smaller batch.*GB"):
        list(train(config(watch=WatchConfig(memory="fail")), [volume()]))
    monkeypatch.setattr(seglib.training.step, "_backward", memory_for(0))
    with pytest.raises(OutOfMemory, match="smaller patches"):
        list(train(config(), [volume()]))


def not_a_number_until(attempt, real):
    """A loss that is no number in the first attempts at a run."""
    built = []

    def build(*arguments, **options):
        built.append(1)
        loss = real(*arguments, **options)
        return loss if len(built) >= attempt else lambda logits, target: logits.sum() * np.nan

    return build


def test_a_run_that_collapses_starts_again_by_itself_where_asked(monkeypatch):
    build = seglib.training.setup.build_loss
    monkeypatch.setattr("seglib.training.setup.build_loss", not_a_number_until(3, build))
    events = list(train(config(watch=WatchConfig(collapse="restart", restarts=2)), [volume()]))
    told = [event.text for event in of(Restarted, events)]
    assert len(told) == 2
    assert "nan at step 1" in told[0]
    assert "seed 7919 and a learning rate of 3.0e-03" in told[0]
    assert len(of(Started, events)) == 3
    assert len(of(StepDone, events)) == 9
    assert last(events).partial["restarts"] == 2
    assert of(StepDone, events)[0].learning_rate == pytest.approx(1e-2 * 0.09)


def test_a_run_gives_up_after_so_many_new_starts(monkeypatch):
    build = seglib.training.setup.build_loss
    monkeypatch.setattr("seglib.training.setup.build_loss", not_a_number_until(9, build))
    with pytest.raises(TrainingError, match="nan"):
        list(train(config(watch=WatchConfig(collapse="restart", restarts=1)), [volume()]))


def test_a_run_begun_anew_goes_on_as_that_attempt_after_a_stop(monkeypatch, tmp_path):
    settings = config(watch=WatchConfig(collapse="restart", restarts=2))
    build = seglib.training.setup.build_loss
    monkeypatch.setattr("seglib.training.setup.build_loss", not_a_number_until(2, build))
    whole = list(train(settings, [volume()]))
    monkeypatch.setattr("seglib.training.setup.build_loss", not_a_number_until(2, build))
    told = saved_run(tmp_path, settings, stop=asked(4))
    monkeypatch.setattr("seglib.training.setup.build_loss", build)
    told += saved_run(tmp_path, settings, resume=load_checkpoint(tmp_path / "last.pt"))
    assert numbers(told) == numbers(whole)


def test_a_collapse_found_at_a_validation_is_told_or_ends_the_attempt(monkeypatch):
    monkeypatch.setattr("seglib.training.watch.LEAST_STEPS", 1)
    # What is labelled is a voxel that no network finds by chance in three epochs of no learning.
    labels = np.zeros((8, 16, 16), np.uint8)
    labels[0, 0, ::3] = 1
    stuck = {
        "optimiser": AdamConfig(learning_rate=1e-30),
        "model": UNet3DConfig(depth=2, start_channels=2, norm="instance"),
        "length": LengthConfig(epochs=4),
    }
    given = volume(labels=labels)
    told = [event.text for event in of(Warned, train(config(**stuck), [given]))]
    assert any("validation part" in text for text in told)
