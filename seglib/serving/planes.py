"""One plane of a volume, a preview or a prediction, as a small picture for the browser.

Image planes become 8-bit grey JPEG through the volume's contrast window; label planes become lossless
8-bit PNG with a palette, whose `tRNS` chunk (one alpha value a palette entry) the browser rewrites to hide
classes without asking again.

Measured on a plane of 2048 × 1536: JPEG 5.5 ms, WebP 1700 ms, imagecodecs' grey PNG 5–15 ms, the PNG made here 3 ms.
"""

import re
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import LabelScheme
from seglib.data.palette import PALETTE, palette_entries
from seglib.data.volumes import TRUTH, Array, open_labels, open_volume
from seglib.errors import DataError
from seglib.export.sources import PROBABILITIES, UNCERTAINTY, open_layer
from seglib.serving.classes import CLASSES, ClassesView, palette_of
from seglib.serving.predictions import DecidedView, DifferenceView, asked_thresholds, difference_palette
from seglib.workspace import Workspace

JPEG, PNG = "image/jpeg", "image/png"
JPEG_QUALITY = 90
# Browsers do not draw larger pictures reliably; a wider plane is shown at every 2nd, 3rd, … voxel.
LARGEST_SIDE = 8192
ENCODED_BYTES = 128 * 2**20
SLAB_BYTES = 256 * 2**20
ONE_SLAB_BYTES = 32 * 2**20
OPEN_LAYERS = 64

# The second kind has a threshold for each of up to 254 classes in its name.
_LAYER = re.compile(r"[a-z0-9-]{1,40}|decided(-[0-9]{1,3}){1,254}")
_IMAGE_LAYER = re.compile(r"image(?:-([0-9]{1,4}))?")
_PROBABILITY_LAYER = re.compile(r"probability-([0-9]{1,3})")
_DIFFERENCE_LAYER = re.compile(r"difference-([1-9][0-9]{0,9})")
_VERSION = re.compile(r"[A-Za-z0-9._-]{0,64}")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Plane:
    """The name of one plane.

    kind: `volume`, `preview` or `prediction`; key: the volume's id, or the run's for the other two.
    layer: `image` (channel 0), `image-<c>` (channel c), a label layer's name, or `classes`: the labels of a volume as
        its data set reads them (class ids, 255 where nothing was annotated). Of a prediction `prediction`, its labels;
        `probability-<k>`, of class k counted from 0, and `uncertainty`, both grey; `decided-<t>` or
        `decided-<t>-<t>-…`, the labels that thresholds of t / 1000 would give; and `difference-<volume>`, where its
        labels and those of the volume it was made from agree.
    axis: `z`, `y` or `x`; index counts from 0 along it.
    version: changes whenever the data behind the name do; at most 64 letters, digits and `._-`.
    """

    kind: str
    key: int
    layer: str
    axis: str
    index: int
    version: str = ""


class Lru(Generic[Value]):
    """A thread-safe cache that drops what was unused longest once it holds more than `budget`.

    size: what a value counts against the budget (bytes, or 1 each).
    """

    def __init__(self, budget: int, size: Callable[[Value], int]) -> None:
        self._budget, self._size = budget, size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._in_work: dict[Hashable, Future[Value]] = {}
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """What the values held now count together; never above the budget."""
        return self._used

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made by `make` if it is not held. Threads asking at once wait for one maker."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            waiting = self._in_work.get(key)
            work = self._in_work.setdefault(key, Future())
        if waiting is not None:
            return waiting.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._in_work[key]
            work.set_exception(error)
            raise
        with self._lock:
            del self._in_work[key]
            self._keep(key, value)
        work.set_result(value)
        return value

    def _keep(self, key: Hashable, value: Value) -> None:
        self._values[key] = value
        self._used += self._size(value)
        while self._used > self._budget:
            _, oldest = self._values.popitem(last=False)
            self._used -= self._size(oldest)


@dataclass(frozen=True)
class Source:
    """An opened layer: ZYX through `prefix`, its grey window (None for labels), and its colours if they are chosen."""

    array: Array
    prefix: tuple[int, ...]
    contrast: tuple[float, float] | None
    palette: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class PlaneCaches:
    """What one server keeps at hand: opened layers, the last decoded slabs, and encoded planes. Thread-safe."""

    sources: Lru[Source] = field(default_factory=lambda: Lru(OPEN_LAYERS, lambda _: 1))
    slabs: Lru[NDArray[Any]] = field(default_factory=lambda: Lru(SLAB_BYTES, lambda slab: slab.nbytes))
    encoded: Lru[bytes] = field(default_factory=lambda: Lru(ENCODED_BYTES, len))


def render_plane(
    workspace: Workspace, plane: Plane, *, caches: PlaneCaches, scheme_of: Callable[[int], LabelScheme]
) -> tuple[bytes, str]:
    """The plane's encoded picture and its media type: grey JPEG of an image, palette PNG of labels.

    A z plane is (Y, X), a y plane (Z, X), an x plane (Z, Y), rows first.
    scheme_of: how the labels of a volume id are read; asked for the layers `classes` and `difference-<volume>`.
    Raises DataError for names that cannot be, planes out of range, and data that are not (or no longer) there,
    and SeglibError for an id that is not one.
    """
    _check_words(plane)
    path = _folder(workspace, plane)
    # A deleted or replaced folder must never be served from memory, whatever version the address says.
    truth = _truth(workspace, plane)
    scheme = scheme_of(truth.key) if truth else None
    stamps = (*_stamp(path, plane), *(_stamp(_folder(workspace, truth), truth) if truth else ()))
    identity = (plane.kind, plane.key, plane.version, stamps, scheme)
    source = caches.sources.get((identity, plane.layer), lambda: _open(workspace, plane, truth, scheme))
    axis = "zyx".index(plane.axis)
    count = source.array.shape[len(source.prefix) + axis]
    if not 0 <= plane.index < count:
        raise DataError(f"Plane {plane.index} was asked for along {plane.axis}, which has planes 0 to {count - 1}.")
    name = (identity, plane.layer, plane.axis)
    media_type = PNG if source.contrast is None else JPEG
    encoded = caches.encoded.get((name, plane.index), lambda: _encode(source, name, plane.index, caches))
    return encoded, media_type


def encode_image(plane_yx: NDArray[Any], contrast: tuple[float, float]) -> bytes:
    """Grey JPEG of a plane of any real dtype; `contrast` are the values shown black and white, NaN is black."""
    return bytes(imagecodecs.jpeg8_encode(_to_grey(plane_yx, *contrast), level=JPEG_QUALITY))


def encode_labels(plane_yx: NDArray[Any], palette: NDArray[np.uint8] | None = None) -> bytes:
    """Lossless palette PNG of a plane of unsigned integers; entry 0, the background, is transparent.

    palette: uint8 (256, 3) in place of the usual colours.

    A PNG palette has 256 entries: a value v above 255 is shown as entry 1 + (v − 1) % 255.
    """
    entries = palette_entries(plane_yx)
    height, width = entries.shape
    # Filter "up" (each row minus the one above): label maps repeat from row to row, so this is mostly zeros.
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = 2
    rows[0, 1:] = entries[0]
    np.subtract(entries[1:], entries[:-1], out=rows[1:, 1:])
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", (PALETTE if palette is None else palette).tobytes()),
        (b"tRNS", b"\x00" + b"\xff" * 255),
        (b"IDAT", bytes(imagecodecs.zlibng_encode(rows.tobytes(), level=1))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(name, body) for name, body in chunks)


def _check_words(plane: Plane) -> None:
    if not _LAYER.fullmatch(plane.layer):
        raise DataError("A layer's name has 1 to 40 characters out of a–z, 0–9 and '-'.")
    if plane.axis not in ("z", "y", "x"):
        raise DataError("The axis of a plane is z, y or x.")
    if not _VERSION.fullmatch(plane.version):
        raise DataError("A version has at most 64 characters out of letters, digits and '._-'.")


def _folder(workspace: Workspace, plane: Plane) -> Path:
    if plane.kind == "volume":
        return workspace.volume(plane.key)
    if plane.kind == "preview":
        return workspace.preview(plane.key)
    if plane.kind == "prediction":
        return workspace.prediction(plane.key) / "labels.zarr"
    raise DataError("There are planes of a volume, a preview or a prediction, and of nothing else.")


def _stamp(path: Path, plane: Plane) -> tuple[int, int]:
    try:
        found = (path / "zarr.json").stat()
    except OSError as error:
        raise DataError(f"There is no {plane.kind} {plane.key} in the workspace (any more).") from error
    return found.st_ino, found.st_mtime_ns


def _truth(workspace: Workspace, plane: Plane) -> Plane | None:
    """The labels that a layer is made of, where it depends on how they are read."""
    difference = _DIFFERENCE_LAYER.fullmatch(plane.layer) if plane.kind == "prediction" else None
    if difference:
        return Plane("volume", int(difference[1]), CLASSES, plane.axis, plane.index)
    return plane if (plane.kind, plane.layer) == ("volume", CLASSES) else None


def _open(workspace: Workspace, plane: Plane, truth: Plane | None, scheme: LabelScheme | None) -> Source:
    path = _folder(workspace, plane)
    if plane.kind == "prediction":
        return _open_prediction(workspace, plane, truth, scheme)
    if scheme is not None:
        return Source(ClassesView(open_labels(path, TRUTH), scheme), (), None, palette_of(scheme))
    image = _IMAGE_LAYER.fullmatch(plane.layer)
    if image is None:
        return Source(open_labels(path, plane.layer), (), None)
    try:
        volume = open_volume(path)
    except KeyError as error:
        raise DataError(f"The {plane.kind} {plane.key} is not complete: it has no {error}.") from error
    channel = int(image[1] or 0)
    if channel >= volume.channels:
        raise DataError(f"Channel {channel} was asked for of an image with {volume.channels} (counted from 0).")
    window = volume.windows[channel] if channel < len(volume.windows) else volume.contrast
    return Source(volume.image, (channel,), window)


def _open_prediction(workspace: Workspace, plane: Plane, truth: Plane | None, scheme: LabelScheme | None) -> Source:
    folder, layer = workspace.prediction(plane.key), plane.layer
    if truth is not None and scheme is not None:
        view = DifferenceView(folder, _folder(workspace, truth), scheme)
        return Source(view, (), None, difference_palette())
    thresholds = asked_thresholds(layer)
    if thresholds is not None:
        return Source(DecidedView(folder, thresholds), (), None)
    probability = _PROBABILITY_LAYER.fullmatch(layer)
    if probability or layer == UNCERTAINTY:
        found = open_layer(folder, PROBABILITIES if probability else UNCERTAINTY).array
        channel = int(probability[1]) if probability else 0
        if channel >= found.shape[0]:
            raise DataError(f"Class {channel} was asked for of {found.shape[0]} (counted from 0).")
        return Source(found, (channel,), (0.0, 255.0 if found.dtype == np.uint8 else 1.0))
    if _IMAGE_LAYER.fullmatch(layer):
        raise DataError("A prediction holds label layers only; its image is that of the volume it was made from.")
    return Source(open_labels(folder / "labels.zarr", layer), (), None)


def _encode(source: Source, name: Hashable, index: int, caches: PlaneCaches) -> bytes:
    axis = "zyx".index(name[2])  # type: ignore[index]
    thickness = _slab_thickness(source, axis)
    number, offset = divmod(index, thickness)
    slab = caches.slabs.get((name, number), lambda: _read_slab(source, axis, number * thickness, thickness))
    plane = slab.take(offset, axis=axis)
    step = -(-max(plane.shape) // LARGEST_SIDE)
    plane = np.ascontiguousarray(plane[::step, ::step])
    return encode_labels(plane, source.palette) if source.contrast is None else encode_image(plane, source.contrast)


def _slab_thickness(source: Source, axis: int) -> int:
    """How many neighbouring planes are decoded together: a chunk's worth, if that is not too much memory."""
    shape = source.array.shape[-3:]
    voxel_bytes = getattr(source.array, "bytes_per_voxel", source.array.dtype.itemsize)
    plane_bytes = voxel_bytes * int(np.prod(shape)) // max(1, shape[axis])
    chunks = getattr(source.array, "chunks", shape)
    return int(max(1, min(chunks[-3:][axis], ONE_SLAB_BYTES // max(1, plane_bytes))))


def _read_slab(source: Source, axis: int, start: int, thickness: int) -> NDArray[Any]:
    window = [slice(None)] * 3
    window[axis] = slice(start, start + thickness)
    return np.asarray(source.array[(*source.prefix, *window)])


def _to_grey(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if plane.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return plane
    if plane.dtype in (np.uint8, np.uint16):
        return _stretch(np.arange(np.iinfo(plane.dtype).max + 1), low, high)[plane]
    return _stretch(plane, low, high)


def _stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    # float32 holds integers up to 2**24 exactly; wider ones need float64 for a narrow window far from 0.
    wide = values.dtype.itemsize > 4 or values.dtype.kind in "iu"
    scaled: NDArray[np.floating[Any]] = values.astype(np.float64 if wide else np.float32)
    np.subtract(scaled, low, out=scaled)
    np.multiply(scaled, 255.0 / ((high - low) or 1.0), out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    np.nan_to_num(scaled, copy=False, nan=0.0)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
