"""Predictions as files for other programs: which there are, and the one place where they are made.

A file is made in the prediction's folder under a name of our own and stays there, until the layer it is made of is
newer. It is read, turned and written block by block, and appears only once it is complete.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seglib.data.volumes import open_volume
from seglib.errors import DataError
from seglib.export.arrays import write_hdf5, write_npy
from seglib.export.figure import write_figure
from seglib.export.movie import write_gif, write_mp4
from seglib.export.omezarr import write_ome_zarr
from seglib.export.planes import View, checked_scene
from seglib.export.sources import LABELS, PLACES, Layer, Watch, layers_there, open_layer
from seglib.export.tiff import write_ome_tiff, write_tiff
from seglib.workspace import Workspace

__all__ = ["FORMATS", "Export", "Format", "View", "Watch", "export_file", "layers_there", "served_file", "write_export"]

EVERY_LAYER = tuple(PLACES)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    label: what people call it; about: what it is good for, in a sentence or two; suffix: of its name.
    layers: what it can hold. is_picture: whether it is drawn from a view of the image and the labels.
    """

    label: str
    about: str
    suffix: str
    media_type: str
    layers: tuple[str, ...] = EVERY_LAYER
    is_picture: bool = False

    def name(self, layer: str) -> str:
        """The name of the file of a layer in a prediction's folder."""
        return f"{'picture' if self.is_picture else layer}{self.suffix}"


FORMATS: dict[str, Format] = {
    "tiff": Format(
        "TIFF for ImageJ, Fiji", "Opens as a stack with its voxel size. Above 4 GB, and for more than 65,535 objects, "
        "it becomes an OME-TIFF. Probabilities stored with 16 bits become 32-bit values.", ".tif", "image/tiff",
    ),
    "ome-tiff": Format(
        "OME-TIFF", "Compressed and tiled, with voxel size, names of channels, and smaller copies for quick looking. "
        "For QuPath, Fiji (Bio-Formats), napari. 16-bit probabilities become 32-bit values.", ".ome.tif", "image/tiff",
    ),
    "ome-zarr": Format(
        "OME-Zarr, zipped", "Exactly what is stored, nothing computed anew: the quickest for large volumes. Unzip it "
        "and open the folder in napari, Fiji or neuroglancer.", ".ome.zarr.zip", "application/zip",
    ),
    "npy": Format(
        "NumPy", "One array for Python, not compressed, without voxel size.", ".npy", "application/octet-stream"
    ),
    "hdf5": Format(
        "HDF5", "Compressed, with voxel size. For ilastik, BigDataViewer and scripts.", ".h5", "application/x-hdf5"
    ),
    "png": Format(
        "Figure as PNG", "One plane with its labels and a scale bar, at 300 dots per inch.", ".png", "image/png",
        (LABELS,), True,
    ),
    "svg": Format(
        "Figure as SVG", "The same for programs that draw: bar and words stay lines.", ".svg", "image/svg+xml",
        (LABELS,), True,
    ),
    "gif": Format("Movie as GIF", "All planes from front to back; runs in slides and on web pages, with 256 colours.",
                  ".gif", "image/gif", (LABELS,), True),
    "mp4": Format("Movie as MP4", "All planes from front to back; smaller and finer than a GIF.", ".mp4", "video/mp4",
                  (LABELS,), True),
}  # fmt: skip

_WRITERS: dict[str, Callable[[Layer, Path, Watch], None]] = {
    "tiff": write_tiff,
    "ome-tiff": write_ome_tiff,
    "ome-zarr": write_ome_zarr,
    "npy": write_npy,
    "hdf5": write_hdf5,
}
_NAMES = {kind.name(layer): (layer, name) for name, kind in FORMATS.items() for layer in kind.layers}
QUICK_BYTES = 256 * 2**20
_SILENT, _USUAL = Watch(), View()


@dataclass(frozen=True)
class Export:
    """One file to be made of a prediction.

    run_id: of the prediction; layer: `labels`, `probabilities` or `uncertainty`; file_format: of FORMATS.
    volume_id, view: of pictures: the volume the prediction was made from, and what is drawn.
    """

    run_id: int
    layer: str
    file_format: str
    volume_id: int = 0
    view: View = _USUAL

    def __post_init__(self) -> None:
        kind = FORMATS.get(self.file_format)
        if kind is None:
            raise DataError(f"There is no format {self.file_format!r}: choose one of {', '.join(FORMATS)}.")
        if self.layer not in EVERY_LAYER:
            raise DataError(f"There is no layer {self.layer!r}: choose one of {', '.join(EVERY_LAYER)}.")
        if self.layer not in kind.layers:
            raise DataError(f"{kind.label} can only be made of {' and '.join(kind.layers)}, not of {self.layer}.")

    @property
    def kind(self) -> Format:
        return FORMATS[self.file_format]


def export_file(workspace: Workspace, export: Export, *, watch: Watch = _SILENT) -> Path:
    """Path of the file in the prediction's folder; made if it is missing or older than its layer. Pictures always are.

    Raises as `write_export` does.
    """
    folder = workspace.prediction(export.run_id)
    path = folder / export.kind.name(export.layer)
    if export.kind.is_picture or not _is_fresh(path, open_layer(folder, export.layer)):
        write_export(workspace, export, path, watch=watch)
    return path


def write_export(workspace: Workspace, export: Export, path: Path, *, watch: Watch = _SILENT) -> None:
    """Makes the file at `path`, where it appears once it is complete.

    Raises DataError where the prediction has no such layer, the format cannot hold it, there is no such volume or
    plane, or the disk is full, and WorkCancelled where the watch stopped it; what was at `path` then stays.
    """
    layer = open_layer(workspace.prediction(export.run_id), export.layer)
    if not export.kind.is_picture:
        _WRITERS[export.file_format](layer, path, watch)
        return
    scene = checked_scene(open_volume(workspace.volume(export.volume_id)), layer.array, export.view)
    if export.file_format == "gif":
        write_gif(scene, path, watch)
    elif export.file_format == "mp4":
        write_mp4(scene, path, watch)
    else:
        write_figure(scene, path, export.file_format, watch)


def served_file(workspace: Workspace, run_id: int, name: str) -> tuple[Path, str]:
    """Path and media type of a file by its name, such as `labels.ome.tif`; made first where that is quick.

    It is for `labels.tif`, and for layers of up to 256 MB; of others and of pictures only what is there is served.
    Raises DataError for any other name, and where there is no such file.
    """
    if name not in _NAMES:
        raise DataError(f"There is no file of that name. A prediction has {', '.join(_NAMES)}.")
    layer, file_format = _NAMES[name]
    export, folder = Export(run_id, layer, file_format), workspace.prediction(run_id)
    source, path = open_layer(folder, layer), folder / name
    if not _is_fresh(path, source):
        if export.kind.is_picture or (source.nbytes > QUICK_BYTES and name != "labels.tif"):
            raise DataError(f"{name} of prediction {run_id} has not been made yet: make it on the Predict page.")
        write_export(workspace, export, path)
    return path, export.kind.media_type


def _is_fresh(path: Path, layer: Layer) -> bool:
    return path.exists() and path.stat().st_mtime >= layer.changed_at
