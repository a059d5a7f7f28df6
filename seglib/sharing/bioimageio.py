"""Networks as packages of the BioImage Model Zoo (bioimage.io), in the current form of its specification."""

import gc
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from seglib.checkpoints import Checkpoint
from seglib.data.normalise import Normalisation
from seglib.errors import SeglibError
from seglib.sharing import Card, Progress
from seglib.sharing.onnx import write_onnx
from seglib.sharing.pages import cover_picture, readme
from seglib.sharing.portable import INPUT, OUTPUT, Freedom, Portable, facts, first_line, is_2d, portable
from seglib.sharing.programs import trace_program, trace_script, write_script

if TYPE_CHECKING:
    from bioimageio.spec.model import v0_5

MISSING = "A BioImage.IO package needs the package bioimageio.spec: install it with pip."
STEPS = 5
# Names in the zoo are of these; anything else becomes a blank.
_FOREIGN = re.compile(r"[^A-Za-z0-9_+\-() ]+")
LONGEST_NAME, LONGEST_DESCRIPTION = 64, 512


@dataclass(frozen=True)
class _Tensors:
    """An image (1, C, *space) as imported and the probabilities (1, K, *space) of the network for it, float32."""

    image: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def write_package(
    checkpoint: Checkpoint, path: Path, *, card: Card, sample: NDArray[Any] | None, progress: Progress
) -> None:
    """Writes a package (zip) with TorchScript and, where the network allows, ONNX; see `share_model`.

    Axes are batch, channel and space, without z for a 2D network, with the voxel size in micrometres. Grey values are
    normalised as the package describes it, or in the network itself where channels are repeated.
    What the specification demands is checked by its own library; nothing is fetched for that.
    """
    try:
        import bioimageio.spec  # noqa: F401 – said now rather than after minutes of work
    except ImportError as error:
        raise SeglibError(f"{MISSING} ({error})") from error

    folder, planes = path.parent, is_2d(checkpoint)
    described = _in_order(checkpoint.normalisation)
    progress(0, STEPS, "Following the network")
    made = portable(checkpoint, normalise=not described, planes=planes)
    script = trace_script(made)
    progress(1, STEPS, "Writing TorchScript")
    write_script(script, made, facts(checkpoint, made, script.free), folder / "network.pt")
    progress(2, STEPS, "Writing ONNX")
    free, opset = _add_onnx(checkpoint, made, script.free, folder / "network.onnx")
    progress(3, STEPS, "Making test images")
    whole = portable(checkpoint, planes=planes)
    tensors = _tensors(whole, sample)
    _write_files(folder, checkpoint, whole, tensors, card)
    progress(4, STEPS, "Packing and checking")
    with warnings.catch_warnings():
        # The library leaves files open until they are collected; an open file cannot be moved on Windows.
        warnings.simplefilter("ignore", ResourceWarning)
        # It looks for the package's own files before it has said where they are, and compares them later all the same.
        warnings.filterwarnings("ignore", "Found mapping with 'source' and", UserWarning)
        _pack(path, lambda: _describe(folder, checkpoint, made, free, opset, card))
        gc.collect()


def _pack(path: Path, describe: "Callable[[], v0_5.ModelDescr]") -> None:
    from bioimageio.spec import ValidationContext, save_bioimageio_package

    try:
        with ValidationContext(root=path.parent, log_warnings=False):
            save_bioimageio_package(describe(), output_path=path)
    except ValueError as error:
        raise SeglibError(f"The package is not as bioimage.io wants it: {first_line(error)}") from error


def _in_order(normalisation: Normalisation) -> bool:
    """Whether the network takes the image's own channels, so that other programs can normalise them."""
    return normalisation.sources == tuple(range(normalisation.channels))


def _add_onnx(checkpoint: Checkpoint, made: Portable, free: Freedom, path: Path) -> tuple[Freedom, int]:
    """Writes ONNX too; returns which sizes all networks of the package take, and the opset, 0 where there is none."""
    try:
        traced = trace_program(made)
        opset = write_onnx(traced, made, facts(checkpoint, made, traced.free), path)
    except SeglibError:  # the package is useful without
        path.unlink(missing_ok=True)
        return free, 0
    return Freedom(sides=free.sides and traced.free.sides, batch=free.batch and traced.free.batch), opset


def _tensors(whole: Portable, sample: NDArray[Any] | None) -> _Tensors:
    """A tile of the training patch's size from the middle of the sample, mirrored where that is smaller."""
    if sample is None:
        image = whole.images(whole.shape).numpy()
    else:
        sides = whole.shape if len(whole.shape) == 3 else (1, *whole.shape)
        starts = [max(0, have - want) // 2 for have, want in zip(sample.shape[1:], sides, strict=True)]
        box = tuple(slice(start, start + want) for start, want in zip(starts, sides, strict=True))
        tile = sample[(slice(None), *box)].astype(np.float32)
        missing = [(0, 0), *((0, want - have) for want, have in zip(sides, tile.shape[1:], strict=True))]
        image = np.pad(tile, missing, mode="symmetric").reshape(1, whole.channels, *whole.shape)
    with torch.no_grad():
        return _Tensors(image, whole.module(torch.from_numpy(image)).numpy())


def _write_files(folder: Path, checkpoint: Checkpoint, whole: Portable, tensors: _Tensors, card: Card) -> None:
    """Everything of the package that is no network and no description."""
    import tifffile

    np.save(folder / "test_input.npy", tensors.image)
    np.save(folder / "test_output.npy", tensors.probabilities)
    for name, values in (("sample_input", tensors.image), ("sample_output", tensors.probabilities)):
        tifffile.imwrite(folder / f"{name}.tif", values[0], photometric="minisblack")
    cover_picture(
        tensors.image[0], tensors.probabilities[0], whole.module.activation, checkpoint.thresholds
    ).save(folder / "cover.png")  # fmt: skip
    (folder / "README.md").write_text(readme(checkpoint, whole, card), encoding="utf-8")


def _describe(
    folder: Path, checkpoint: Checkpoint, made: Portable, free: Freedom, opset: int, card: Card
) -> "v0_5.ModelDescr":
    from bioimageio.spec.common import FileDescr
    from bioimageio.spec.model import v0_5

    def file(name: str) -> FileDescr:
        return FileDescr(source=folder / name)

    axes_in, axes_out = _axes(checkpoint, made, free)
    inputs = v0_5.InputTensorDescr(
        id=v0_5.TensorId(INPUT),
        description="Grey values as imported",
        axes=axes_in,
        test_tensor=file("test_input.npy"),
        sample_tensor=file("sample_input.tif"),
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
        preprocessing=_preprocessing(checkpoint.normalisation) if _in_order(checkpoint.normalisation) else [],
    )
    outputs = v0_5.OutputTensorDescr(
        id=v0_5.TensorId(OUTPUT),
        description="Probability of each class; background is not among them",
        axes=axes_out,
        test_tensor=file("test_output.npy"),
        sample_tensor=file("sample_output.tif"),
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
    )
    config = v0_5.Config.model_validate(
        {
            "bioimageio": {"architecture_type": made.title[:32], "task": "segmentation"},
            "seglib": {**facts(checkpoint, made, free), "training_data": card.training_data},
        }
    )
    return v0_5.ModelDescr(
        name=clean_name(card.name),
        description=(card.description.strip() or f"Segments {', '.join(checkpoint.names)}.")[:LONGEST_DESCRIPTION],
        authors=[v0_5.Author(name=_clean_author(card.author))],
        license=v0_5.LicenseId(card.licence),
        tags=_tags(checkpoint, made),
        covers=[file("cover.png")],
        documentation=file("README.md"),
        inputs=[inputs],
        outputs=[outputs],
        weights=_weights(folder, opset),
        config=config,
    )


def _axes(checkpoint: Checkpoint, made: Portable, free: Freedom) -> tuple[list[Any], list[Any]]:
    """Axes of the input and of the output."""
    from bioimageio.spec.model import v0_5

    batch = v0_5.BatchAxis() if free.batch else v0_5.BatchAxis(size=1)
    first = [v0_5.ChannelAxis(channel_names=[f"channel {index + 1}" for index in range(made.channels)])]
    last = [v0_5.ChannelAxis(channel_names=list(checkpoint.names))]
    taken: list[Any] = [batch, *first]
    given: list[Any] = [batch, *last]
    names = "zyx"[-len(made.shape) :]
    sizes_nm = checkpoint.voxel_size_nm[-len(made.shape) :]
    for name, side, step, size_nm in zip(names, made.shape, made.stride, sizes_nm, strict=True):
        axis = v0_5.AxisId(name)
        size = v0_5.ParameterizedSize(min=side, step=step) if free.sides else side
        scale = size_nm / 1000
        taken.append(v0_5.SpaceInputAxis(id=axis, size=size, unit="micrometer", scale=scale, concatenable=free.sides))
        like = v0_5.SizeReference(tensor_id=v0_5.TensorId(INPUT), axis_id=axis)
        halo = side // 8
        given.append(
            v0_5.SpaceOutputAxisWithHalo(id=axis, size=like, unit="micrometer", scale=scale, halo=halo)
            if halo and free.sides
            else v0_5.SpaceOutputAxis(id=axis, size=like, unit="micrometer", scale=scale)
        )
    return taken, given


def _preprocessing(normalisation: Normalisation) -> list[Any]:
    """(grey − centre) × scale as gain and offset of each channel, then a clip."""
    from bioimageio.spec.model import v0_5

    gain = list(normalisation.scale)
    offset = [-centre * scale for centre, scale in zip(normalisation.centre, normalisation.scale, strict=True)]
    steps: list[Any] = []
    if any(one != 1 for one in gain) or any(offset):
        kwargs: Any = (
            v0_5.ScaleLinearKwargs(gain=gain[0], offset=offset[0])
            if len(gain) == 1
            else v0_5.ScaleLinearAlongAxisKwargs(axis=v0_5.AxisId("channel"), gain=gain, offset=offset)
        )
        steps.append(v0_5.ScaleLinearDescr(kwargs=kwargs))
    clip = max(normalisation.clip)
    return [*steps, v0_5.ClipDescr(kwargs=v0_5.ClipKwargs(min=-clip, max=clip))]


def _weights(folder: Path, opset: int) -> "v0_5.WeightsDescr":
    from bioimageio.spec.model import v0_5

    version = v0_5.Version(torch.__version__.split("+")[0])
    script = v0_5.TorchscriptWeightsDescr(source=folder / "network.pt", pytorch_version=version)
    if not opset:
        return v0_5.WeightsDescr(torchscript=script)
    onnx = v0_5.OnnxWeightsDescr(source=folder / "network.onnx", opset_version=opset, parent="torchscript")
    return v0_5.WeightsDescr(torchscript=script, onnx=onnx)


def clean_name(text: str) -> str:
    """A name as the zoo allows it: 5 to 64 of its characters."""
    name = " ".join(_FOREIGN.sub(" ", text).split())[:LONGEST_NAME].strip()
    return name if len(name) >= 5 else f"Model {name}".strip() if name else "Segmentation model"


def _clean_author(text: str) -> str:
    return " ".join(text.replace("/", "-").replace("\\", "-").split())


def _tags(checkpoint: Checkpoint, made: Portable) -> list[str]:
    names: Sequence[str] = [" ".join(name.split()) for name in checkpoint.names]
    kinds = [checkpoint.config.model.kind, f"{len(made.shape)}d", "segmentation", "semantic-segmentation", "pytorch"]
    return [*kinds, *names]
