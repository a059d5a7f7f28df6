"""A layer's OME-Zarr folder as one zip."""

import json
import os
import zipfile
from pathlib import Path

from seglib.export.placing import placed
from seglib.export.sources import Layer, Watch

SUFFIX = ".ome.zarr"


def write_ome_zarr(layer: Layer, path: Path, watch: Watch) -> None:
    """Writes a zip that holds the folder `<layer>.ome.zarr`: OME-Zarr v0.5, with all its levels.

    Chunks are compressed already and only copied, one file at a time.
    """
    files = _files(layer.path)
    with placed(path) as temporary, zipfile.ZipFile(temporary, "w", strict_timestamps=False) as archive:
        for done, file in enumerate(files):
            watch.step(done, len(files), path.name)
            inner = file.relative_to(layer.path).as_posix()
            if inner == "zarr.json":
                archive.writestr(f"{layer.name}{SUFFIX}/{inner}", _alone(file.read_text(encoding="utf-8")))
            else:
                archive.write(file, f"{layer.name}{SUFFIX}/{inner}")
        watch.step(len(files), len(files), path.name)


def _files(folder: Path) -> list[Path]:
    """The files of a layer, the description of the whole first; no links, and no label layers within an image."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "labels")
        paths = (Path(place, name) for name in sorted(names))
        found += [path for path in paths if path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: path != folder / "zarr.json")


def _alone(description: str) -> str:
    """The description of a group without where its image was: the image is not in the zip."""
    described = json.loads(description)
    described["attributes"]["ome"].get("image-label", {}).pop("source", None)
    return json.dumps(described, indent=2)
