"""The picture shows what is in the tables, whatever is missing from them."""

import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from seglib.runfolder.curves import BLOCKS, COLOURS, best_row, sampled_steps, save_curves
from seglib.runfolder.table import Table

STEPS = ("step", "epoch", "loss", "learning_rate", "gradient_norm")
SVG = "{http://www.w3.org/2000/svg}"


def write_steps(path, count, loss=lambda step: 1 / step):
    table = Table(path, STEPS)
    for step in range(1, count + 1):
        table.put(dict(zip(STEPS, (step, 1, loss(step), 0.1 * step, 0.0), strict=True)))
    table.flush()


def write_history(path, rows):
    table = Table(path, ("step", "epoch", "time"))
    for step, scores in rows:
        table.put({"step": step, "epoch": step // 10, "time": "t", **scores})
    table.flush()


def drawn(folder, best_by="dice") -> list[str]:
    """Draws, and returns the texts of the picture."""
    save_curves(folder / "history.csv", folder / "steps.csv", folder / "curves.png", best_by=best_by)
    with Image.open(folder / "curves.png") as picture:
        picture.load()
        assert picture.width > 1000
        shown = {tuple(colour) for _, colour in picture.convert("RGB").getcolors(2**24)}
    texts = ["".join(node.itertext()).strip() for node in ET.parse(folder / "curves.svg").iter(f"{SVG}text")]
    return [*texts, *(colour for colour in COLOURS if tuple(bytes.fromhex(colour[1:])) in shown)]


def test_everything_says_what_it_was_measured_on(tmp_path):
    write_steps(tmp_path / "steps.csv", 40)
    write_history(
        tmp_path / "history.csv",
        [
            (10, {"train/loss": 0.9, "train/dice": 0.1, "val/loss": 1.0, "val/dice": 0.1, "val/dice/a": 0.3}),
            (20, {"train/loss": 0.5, "train/dice": 0.6, "val/loss": 0.7, "val/dice": 0.5, "val/dice/a": 0.3}),
            (30, {"train/loss": 0.4, "train/dice": 0.7, "val/loss": 0.8, "val/dice": 0.4, "val/dice/a": 0.3}),
        ],
    )
    texts = drawn(tmp_path)
    assert "Loss on training patches and on the whole validation part" in texts
    assert "Scores on training patches and on the whole validation part" in texts
    assert {"Learning rate", "learning rate", "score", "loss", "training step"} <= set(texts)
    assert {"loss, training patches", "loss, whole validation part", "single steps"} <= set(texts)
    assert {"Dice, training patches", "Dice, whole validation part"} <= set(texts)
    assert "best on the whole validation part: epoch 2, step 20" in texts
    assert not any("dice/a" in text for text in texts)
    assert {COLOURS[0], COLOURS[1]} <= set(texts)


def test_distances_have_axes_of_their_own(tmp_path):
    write_history(tmp_path / "history.csv", [(10, {"val/loss": 0.4, "val/hausdorff95": float("inf")})])
    write_history(
        tmp_path / "history.csv",
        [(step, {"val/loss": 0.4, "val/hausdorff95": value}) for step, value in ((10, np.inf), (20, 9.0), (30, 11.0))],
    )
    texts = drawn(tmp_path, best_by="hausdorff95")
    assert "distance (nm)" in texts
    assert "best on the whole validation part: epoch 2, step 20" in texts


@pytest.mark.parametrize("rows", [[], [(10, {"train/loss": 0.5})], [(10, {"val/loss": np.nan, "val/dice": np.nan})]])
@pytest.mark.parametrize("steps", [0, 1])
def test_what_there_is_not_yet_is_left_out(tmp_path, rows, steps):
    write_history(tmp_path / "history.csv", rows)
    write_steps(tmp_path / "steps.csv", steps)
    assert not any("best" in text for text in drawn(tmp_path))


def test_without_any_table_empty_axes_are_drawn(tmp_path):
    assert "Learning rate" in drawn(tmp_path)


def test_hundreds_of_epochs_and_every_score_can_be_drawn(tmp_path):
    names = ("dice", "iou", "precision", "recall", "specificity", "accuracy", "total_error", "false_negative_rate")
    rows = [(10 * n, {f"val/{name}": n / 400 for name in names} | {"val/loss": 1 / n}) for n in range(1, 400)]
    write_history(tmp_path / "history.csv", rows)
    texts = drawn(tmp_path, best_by="total_error")
    assert "total error, whole validation part" in texts
    assert "best on the whole validation part: epoch 1, step 10" in texts


def test_the_best_row_is_the_one_the_best_checkpoint_is_of():
    """As training keeps it: the first of equal ones; the loss where the score is no number."""
    columns = {"val/loss": np.array([0.5, 0.2, 0.4, np.nan]), "val/dice": np.array([0.3, 0.7, 0.7, np.nan])}
    assert best_row(columns, "dice") == 1
    assert best_row(columns, "loss") == 1
    assert best_row(columns, "iou") == 1
    assert (
        best_row({"val/loss": columns["val/loss"], "val/total_error": np.array([3.0, 2.0, 1.0, 9])}, "total_error") == 2
    )
    assert best_row({"val/loss": np.array([0.5]), "val/hausdorff95": np.array([np.inf])}, "hausdorff95") is None
    assert best_row({}, "dice") is None


def test_few_steps_are_shown_as_they_are(tmp_path):
    write_steps(tmp_path / "steps.csv", 30)
    expected = [(step, 1 / step, 0.1 * step) for step in range(1, 31)]
    assert np.allclose(sampled_steps(tmp_path / "steps.csv"), expected, rtol=1e-12)


def test_some_thousand_steps_are_shown_as_means_over_all_of_them(tmp_path):
    write_steps(tmp_path / "steps.csv", 4000, loss=float)
    found = sampled_steps(tmp_path / "steps.csv")
    assert np.allclose(found[:, 0], np.arange(1, 4001).reshape(BLOCKS, 10).mean(1))
    assert np.allclose(found[:, 1], found[:, 0])


def test_of_very_many_steps_pieces_are_read_from_beginning_to_end(tmp_path):
    lines = "".join(f"{step},1,{step / 2},0.001,1.0\n" for step in range(1, 100_001))
    (tmp_path / "steps.csv").write_text(",".join(STEPS) + "\n" + lines + "100001,1,0.")
    found = sampled_steps(tmp_path / "steps.csv")
    assert len(found) == BLOCKS
    assert found[0, 0] < 150
    assert found[-1, 0] > 99_850
    assert np.allclose(found[:, 1], found[:, 0] / 2)
    assert np.all(np.abs(np.diff(found[:, 0]) - 250) < 100)


def test_several_runs_draw_at_once(tmp_path):
    folders = [tmp_path / str(number) for number in range(2)]
    failed = []

    def draw(folder, count):
        try:
            write_steps(folder / "steps.csv", count)
            drawn(folder)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=draw, args=(folder, 10 + n)) for n, folder in enumerate(folders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
