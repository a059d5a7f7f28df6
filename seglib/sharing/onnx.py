"""Networks as ONNX, for programs that know neither torch nor seglib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seglib.errors import SeglibError
from seglib.sharing.portable import EXPORT_ERRORS, INPUT, OUTPUT, Freedom, Portable, first_line
from seglib.sharing.programs import Traced, compare

MISSING = "ONNX needs the packages onnx, onnxscript and onnxruntime: install them with pip."


def write_onnx(traced: Traced, made: Portable, facts: Mapping[str, str], path: Path) -> int:
    """Writes the network as ONNX: `image` float32 (N, C, *space) -> `probabilities` float32 (N, K, *space), 0–1.

    The facts are its `metadata_props`; returns its opset. What onnxruntime makes of the file is compared with the
    network, at several sizes where it is free to take them. Raises SeglibError where it differs, where an operation of
    the network has no counterpart in ONNX or onnxruntime, where the weights need more than the 2 GB the format holds,
    or where a package is missing.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 – torch's exporter stands on it
    except ImportError as error:
        raise SeglibError(f"{MISSING} ({error})") from error

    try:
        program = torch.onnx.export(
            traced.program, (), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
        assert program is not None
        model = program.model_proto
        _name_axes(model, traced.free)
        opset: int = next(one.version for one in model.opset_import if not one.domain)
        onnx.helper.set_model_props(model, {**facts, "opset": str(opset)})
        onnx.checker.check_model(model)
        onnx.save(model, path)
    except (*EXPORT_ERRORS, onnx.checker.ValidationError) as error:
        raise SeglibError(
            f"{made.title} cannot be written as ONNX: {first_line(error)} A program of torch may still work."
        ) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise SeglibError(f"onnxruntime cannot run {made.title} as ONNX: {first_line(error)}") from error

    def answer(image: Tensor) -> Tensor:
        found: Any = session.run([OUTPUT], {INPUT: image.numpy()})[0]
        return torch.from_numpy(found)

    compare(answer, made, traced.free, "The ONNX file")
    return opset


def _name_axes(model: Any, free: Freedom) -> None:
    """Names of axes for people, instead of torch's symbols; sizes in between, which name those, are left out."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        if free.batch:
            axes[0].dim_param = "batch"
        if free.sides:
            for axis, name in zip(axes[2:], "zyx"[-len(axes[2:]) :], strict=True):
                axis.dim_param = name
