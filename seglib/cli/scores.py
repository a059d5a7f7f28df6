"""Scores in lines a person can read."""

from collections.abc import Mapping
from typing import Any

# Of an epoch; all scores are in the run's history.
OF_AN_EPOCH = ("loss", "dice", "iou", "dice_at_best_threshold")
OF_VOXELS = ("dice", "iou", "precision", "recall", "hausdorff95", "surface_distance", "surface_dice")
OF_OBJECTS = ("true_objects", "predicted_objects", "f1@0.5", "ap@0.5", "ap", "pq@0.5", "rand_error", "voi")


def epoch_in_words(scores: Mapping[str, float]) -> str:
    """The main scores of an epoch and each class's Dice, in one line."""
    shown = [name for name in scores if name in OF_AN_EPOCH or name.startswith("dice/")]
    return ", ".join(_told(name, scores[name]) for name in shown)


def volume_in_words(scores: Mapping[str, float], details: Mapping[str, Any]) -> str:
    """Scores of a measured volume: a line for the mean and for each class, and one for objects where they matched."""
    lines = [", ".join(_told(name, scores[name]) for name in OF_VOXELS if name in scores)]
    absent, names = set(details.get("absent", [])), list(details.get("names", []))
    for one in names if len(names) > 1 else []:
        of_class = [(name, scores.get(f"{name}/{one}")) for name in OF_VOXELS]
        told = ", ".join(_told(name, value) for name, value in of_class if value is not None)
        lines.append(f"{one}: not in the labels" if one in absent else f"{one}: {told}")
    objects = [(name, scores.get(f"objects/{name}")) for name in OF_OBJECTS]
    if told := ", ".join(_told(name, value) for name, value in objects if value is not None):
        lines.append(f"objects: {told}")
    return "\n  ".join(lines)


def _told(name: str, value: float) -> str:
    shown = f"{value:.0f}" if name.endswith("_objects") else f"{value:.4f}"
    return f"{name.replace('_', ' ')} {shown}"
