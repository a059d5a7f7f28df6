"""What is no single number is kept with its step, forgotten with what comes after a checkpoint and with its run."""

from seglib.store.details import add_details, get_details
from seglib.store.metrics import forget_after
from seglib.store.runs import create_run, delete_run, request_stop

CONFUSION = {"names": ["axon"], "confusion": [[90, 2], [3, 5]], "thresholds": [0.4], "absent": []}


def test_details_are_of_a_step_and_a_place_and_the_last_ones_are_found(store):
    run = create_run(store, "train", name="one", config={}, device="cpu")
    add_details(store, run, "val", 10, CONFUSION)
    add_details(store, run, "val", 20, {"names": []})
    assert get_details(store, run, "val", 10) == CONFUSION
    assert get_details(store, run, "val") == {"names": []}
    assert get_details(store, run, "volume") == get_details(store, run + 1, "val") == {}
    add_details(store, run, "val", 20, CONFUSION)
    assert get_details(store, run, "val", 20) == CONFUSION


def test_details_go_with_the_steps_they_are_of_and_with_their_run(store):
    run = create_run(store, "train", name="one", config={}, device="cpu")
    for step in (10, 20):
        add_details(store, run, "val", step, {"names": [str(step)]})
    forget_after(store, run, 10)
    assert get_details(store, run, "val") == {"names": ["10"]}
    request_stop(store, run)
    delete_run(store, run)
    assert get_details(store, run, "val") == {}
