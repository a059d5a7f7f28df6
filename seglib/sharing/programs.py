"""Networks as programs of torch: `torch.export` (.pt2) and TorchScript (.pt). Neither needs seglib to be run."""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.fx.experimental._config as sizes
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.jit._trace import TracerWarning

from seglib.errors import SeglibError
from seglib.sharing.portable import EXPORT_ERRORS, INPUT, Freedom, Portable, check_answer, first_line

FACTS_FILE = "seglib.json"


@dataclass(frozen=True)
class Traced:
    """program: what `torch.export` made of a network; free: which sizes it takes."""

    program: ExportedProgram
    free: Freedom


@dataclass(frozen=True)
class Script:
    """module: what `torch.jit.trace` made of a network; free: which sizes it takes."""

    module: torch.jit.ScriptModule
    free: Freedom


def trace_program(made: Portable) -> Traced:
    """The network as a graph with as much freedom as torch can give it and comparing it with the network allows.

    Raises SeglibError where torch cannot follow the network at all.
    """
    sides: dict[int, object] = {0: Dim("batch")}
    for axis, step in enumerate(made.stride, 2):
        side = Dim("zyx"[axis - 2 - len(made.stride)])
        sides[axis] = step * side if step > 1 else side
    # Sides of 1 would be taken for constants, so the example is twice the patch; nothing of it is computed. The setting
    # of `sizes`, which torch's ONNX exporter makes too, lets the deepest level of a network still be 1 later on.
    twice = [2 * side for side in made.shape]
    ways = [
        (Freedom(sides=True, batch=True), made.images(twice, batch=2), {INPUT: sides}),
        (Freedom(sides=False, batch=True), made.images(made.shape, batch=2), {INPUT: {0: sides[0]}}),
        (Freedom(sides=False, batch=False), made.images(made.shape), None),
    ]
    for free, example, dynamic in ways:
        try:
            with _quiet(), torch.no_grad(), sizes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
                program = torch.export.export(made.module, (example,), dynamic_shapes=dynamic)
            compare(program.module(), made, free, "The exported program")
        except (*EXPORT_ERRORS, SeglibError) as error:
            last = error
        else:
            return Traced(program, free)
    raise SeglibError(
        f"torch.export cannot follow {made.title}: {first_line(last)} The run's checkpoint can still be used here."
    ) from last


def write_program(traced: Traced, made: Portable, facts: Mapping[str, str], path: Path) -> None:
    """Writes the program; `torch.export.load` reads it, with the facts as extra file `seglib.json`.

    It is read back and compared with the network. Raises SeglibError where they differ.
    """
    torch.export.save(traced.program, path, extra_files={FACTS_FILE: json.dumps(facts)})
    compare(torch.export.load(path).module(), made, traced.free, "The exported program")


def trace_script(made: Portable) -> Script:
    """The network as TorchScript. Raises SeglibError where torch cannot follow it."""
    try:
        with _quiet(), torch.no_grad():
            script = torch.jit.trace(made.module, made.images(made.shape), check_trace=False)
    except EXPORT_ERRORS as error:
        raise SeglibError(f"{made.title} cannot be written as TorchScript: {first_line(error)}") from error
    free = Freedom(sides=True, batch=True)
    try:
        compare(script, made, free, "The TorchScript file")
    except (*EXPORT_ERRORS, SeglibError):
        free = Freedom(sides=False, batch=False)
        compare(script, made, free, "The TorchScript file")
    return Script(script, free)


def write_script(script: Script, made: Portable, facts: Mapping[str, str], path: Path) -> None:
    """Writes TorchScript; `torch.jit.load` reads it, with the facts as extra file `seglib.json`.

    It is read back and compared with the network. Raises SeglibError where they differ.
    """
    torch.jit.save(script.module, path, _extra_files={FACTS_FILE: json.dumps(facts)})
    compare(torch.jit.load(path), made, script.free, "The TorchScript file")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of what comparing with the network would find, or finds to do no harm."""
    with warnings.catch_warnings():
        # What depends on the size of the example, and what a network keeps in itself of its last input.
        warnings.simplefilter("ignore", TracerWarning)
        warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export", UserWarning)
        yield


def compare(answer: Callable[[Tensor], Tensor], made: Portable, free: Freedom, what: str) -> None:
    """Compares what a file answers with what the network does, at all sizes it says it takes.

    Raises SeglibError where they differ by more than TOLERANCE.
    """
    for image in made.examples(free):
        with torch.no_grad():
            check_answer(answer(image), made.module(image), what)
