"""What a run was computed with: versions, machine, data. No host, user or folder is named."""

import hashlib
import importlib.metadata
import json
import platform
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

import seglib
from seglib.runfolder.files import local_time, write_atomically

PACKAGES = ("torch", "numpy", "monai", "segmentation-models-pytorch-3d", "scipy", "zarr")


def write_environment(path: Path, *, compute: Mapping[str, Any], data: Sequence[Mapping[str, Any]]) -> None:
    """Writes environment.json; where the run went on elsewhere, what it was before is in its list `earlier`.

    compute: device, precision and threads that are used. data: the volumes a run is about, with their fingerprints.
    Raises OSError where the disk is full.
    """
    now: dict[str, Any] = {
        "versions": _versions(),
        "system": {"os": platform.platform(), "machine": platform.machine(), "cpu": _cpu(), "gpus": _gpus()},
        "compute": dict(compute),
        "data": [dict(volume) for volume in data],
    }
    now["system"]["memory_gb"] = round(psutil.virtual_memory().total / 2**30, 1)
    before = _read(path)
    earlier = before.pop("earlier", [])
    since = before.pop("since", None)
    # As JSON has it, where a tuple is a list.
    if json.loads(json.dumps(now)) != before:
        earlier = [*earlier, {"since": since, **before}] if before else []
        since = local_time(time.time())
    whole = {"since": since, **now, "earlier": earlier}
    write_atomically(path, json.dumps(whole, indent=2, ensure_ascii=False).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # none yet, or one that something else wrote
        return {}
    return found if isinstance(found, dict) else {}


def _versions() -> dict[str, str | None]:
    import torch

    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    return {
        "python": platform.python_version(),
        "seglib": _own_version(),
        "seglib_source_sha256": _own_digest(),
        **{name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "cudnn": str(cudnn) if cudnn else None,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _own_version() -> str | None:
    """It is run from its folder as well as installed."""
    project = Path(seglib.__file__).parents[1] / "pyproject.toml"
    if not project.exists():
        return _version("seglib-studio")
    return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


def _own_digest() -> str:
    """sha256 over the names and contents of all modules, which tells changed copies of one version apart."""
    digest, folder = hashlib.sha256(), Path(seglib.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _cpu() -> dict[str, Any]:
    table = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", table.read_text(), re.MULTILINE) if table.exists() else None
    return {
        "model": named.group(1).strip() if named else platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
    }


def _gpus() -> list[dict[str, Any]]:
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 2**30, 1)} for gpu in found]
