"""Files of weights, read without running anything in them."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from seglib.errors import CheckpointError

SECONDS = 300
MEMORY_BYTES = 16 * 2**30
NESTED = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
SAFE, PICKLED = (".safetensors",), (".pt", ".pth", ".ckpt", ".bin")


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a file by name.

    safetensors are read as they are; .pt and .pth by torch's strict loader (`weights_only`), in a process of its own
    with limits on memory and time, so that a damaged or hostile file harms nothing.
    Raises CheckpointError with what is wrong.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    suffix = path.suffix.casefold()
    if suffix not in (*SAFE, *PICKLED):
        raise CheckpointError(f"{path.name} is no file of weights: .safetensors, .pt and .pth are.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not there.")
    try:
        if suffix in SAFE:
            return load_file(path)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "tensors.safetensors"
            _copied(path, copy)
            return load_file(copy)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read as weights: {error}") from error


def _copied(path: Path, copy: Path) -> None:
    command = [sys.executable, "-m", __name__, str(path), str(copy)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, preexec_fn=_limited, env=_plain()
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"Reading {path.name} took longer than {SECONDS} s.") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise CheckpointError(f"{path.name} cannot be read as weights: {said[:300]}")


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


def _plain() -> dict[str, str]:
    """The environment without what would make torch less strict."""
    return {name: value for name, value in os.environ.items() if name != "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}


def _main(path: str, copy: str) -> None:
    """The other side: writes the tensors of a pickled file as safetensors."""
    import torch
    from safetensors.torch import save_file

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own words are long, and advise to switch the check off.
        raise SystemExit(f"it holds more than tensors, or is damaged ({type(error).__name__})") from error
    while isinstance(held, dict) and not any(isinstance(value, torch.Tensor) for value in held.values()):
        inner = next((held[name] for name in NESTED if isinstance(held.get(name), dict)), None)
        if inner is None:
            break
        held = inner
    tensors = {
        str(name): value.detach().clone().contiguous()
        for name, value in (held.items() if isinstance(held, dict) else ())
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise SystemExit("there are no named tensors in it")
    save_file(tensors, copy)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
