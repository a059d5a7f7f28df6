"""What a package shows to people: a picture and a page of text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seglib.checkpoints import Checkpoint
from seglib.data.palette import PALETTE
from seglib.data.pictures import grey_picture, painted, visible_range
from seglib.inference.deciding import decide
from seglib.losses import Activation
from seglib.sharing import Card
from seglib.sharing.portable import Portable

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE_PX = 384


def cover_picture(
    image: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    activation: Activation,
    thresholds: Sequence[float],
) -> "Image":
    """A picture twice as wide as high: the middle plane of an image (C, …, Y, X), and the classes found in it.

    probabilities: (K, …, Y, X), of the foreground classes. thresholds: of each class; none are 0.5.
    """
    from PIL import Image

    grey, found = _middle(image)[0], _middle(probabilities)
    shown = grey_picture(grey, *visible_range(grey))
    classes = painted(shown, decide(found, activation, thresholds or 0.5), PALETTE)
    halves = [Image.fromarray(half).resize((SIDE_PX, SIDE_PX)) for half in (shown, classes)]
    whole = Image.new("RGB", (2 * SIDE_PX, SIDE_PX))
    for place, half in enumerate(halves):
        whole.paste(half, (place * SIDE_PX, 0))
    return whole


def readme(checkpoint: Checkpoint, made: Portable, card: Card) -> str:
    """The page as Markdown: what the network takes and gives, what it learned from, how it was judged."""
    axes = "zyx"[-len(made.shape) :]
    size = " × ".join(f"{side:g}" for side in checkpoint.voxel_size_nm[-len(axes) :])
    limits = checkpoint.thresholds or (0.5,) * len(checkpoint.names)
    classes = [f"{i}. {_plain(name)} (threshold {limit:.3g})" for i, (name, limit) in
               enumerate(zip(checkpoint.names, limits, strict=True), 1)]  # fmt: skip
    lines = [
        f"# {_plain(card.name)}",
        _plain(card.description) or "A network that segments images.",
        f"Trained with Seglib Studio: {made.title}, {checkpoint.step:,} steps.",
        "## What goes in and what comes out",
        f"Images with {made.channels} channel(s), trained at a voxel size ({', '.join(axes)}) of {size} nm, in patches "
        f"of {' × '.join(map(str, made.shape))}. Grey values are normalised by numbers measured once on the training "
        "images, never on the image at hand: give them as they come from the microscope, in the same range.",
        "One channel of probabilities for each class; background is not among them. "
        + (
            "Classes and background compete: what is missing to 1 is background."
            if made.module.activation == "softmax"
            else "Each class is judged by itself: a voxel belongs to the likeliest class above its threshold."
        ),
        "\n".join(classes),
        "## Training data",
        _plain(card.training_data) or "Not described.",
        "## Validation",
        _judged(checkpoint),
        "## Licence",
        f"{card.licence}, by {_plain(card.author)}.",
    ]
    return "\n\n".join(lines) + "\n"


def _judged(checkpoint: Checkpoint) -> str:
    """How the run found its network on its validation part."""
    if checkpoint.score is None:
        return "The run was never validated."
    # Where nothing is annotated the score is the loss, negative.
    measure = checkpoint.config.validation.best_by if checkpoint.score >= 0 else "loss, as nothing was labelled"
    return (
        f"On the run's own validation part ({measure}) after epoch {checkpoint.epoch}: {abs(checkpoint.score):.4f}. "
        "Before use on other images, segment some whose labels are known, and compare."
    )


def _middle(values: NDArray[Any]) -> NDArray[Any]:
    """The middle plane of (C, Z, Y, X), or (C, Y, X) as it is."""
    return values[:, values.shape[1] // 2] if values.ndim == 4 else values


def _plain(text: str) -> str:
    """A person's text in one line, with nothing in it that Markdown or HTML would act on."""
    return "".join(f"\\{one}" if one in r"\`*_{}[]()#+!|<>~$&" else one for one in " ".join(text.split()))
