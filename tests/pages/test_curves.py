"""What the curves' component is told: whole charts, and names that are not read as HTML."""

import json

import pytest

from pages.ui import curves
from pages.ui.curves import COLOURS, LIVE_MS, Chart, Trace, escaped, show_curves


@pytest.fixture
def told(monkeypatch) -> list[dict]:
    """What the component was called with."""
    calls: list[dict] = []
    monkeypatch.setattr(curves, "_component", lambda **call: calls.append(call))
    return calls


def test_charts_reach_the_browser_whole_and_as_json(told):
    dice = Trace(3, "val/dice", "Dice", COLOURS[1])
    step = Trace(3, "step/loss", "each step", COLOURS[0], faint=True)
    show_curves("k", [Chart("Loss", (step,)), Chart("Dice", (dice,), x="epoch")], live=True, height=200)
    (call,) = told
    assert call["key"] == call["data"]["key"] == "k"
    assert (call["data"]["height"], call["data"]["live"]) == (200, LIVE_MS)
    assert json.loads(json.dumps(call["data"]["charts"])) == [
        {
            "title": "Loss",
            "x": "step",
            "traces": [
                {"run": 3, "metric": "step/loss", "label": "each step", "colour": COLOURS[0], "faint": True},
            ],
        },
        {
            "title": "Dice",
            "x": "epoch",
            "traces": [{"run": 3, "metric": "val/dice", "label": "Dice", "colour": COLOURS[1], "faint": False}],
        },
    ]


def test_curves_of_runs_that_are_over_are_not_asked_for_again(told):
    show_curves("k", [], live=False)
    assert told[0]["data"]["live"] == 0


def test_names_are_text_and_not_html(told):
    assert escaped("<b>&amp;") == "&lt;b&gt;&amp;amp;"
    trace = Trace(1, "val/dice", "<img src=x onerror=alert(1)>", COLOURS[0])
    show_curves("k", [Chart("<a href=//evil>", (trace,))], live=False)
    (chart,) = told[0]["data"]["charts"]
    assert "<" not in chart["title"] + chart["traces"][0]["label"]


def test_colours_differ():
    assert len(set(COLOURS)) == len(COLOURS) >= 8
