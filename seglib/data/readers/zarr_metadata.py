"""What the metadata files of a Zarr folder say, read as plain JSON, with an allow-list of what may be decoded."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seglib.data.readers.base import SourceFile
from seglib.data.readers.units import length_nm, nanometres
from seglib.errors import DataError

MAX_JSON = 8 << 20
MAX_NODES = 10_000
MAX_DEPTH = 8
# Codecs that turn bytes into numbers; pickle, json, msgpack and vlen-* would make objects of them.
_CODECS = {
    *("bytes", "transpose", "sharding_indexed", "crc32c", "blosc", "gzip", "zstd"),
    *("zlib", "bz2", "lz4", "lzma", "delta", "shuffle", "fletcher32", "adler32", "crc32", "packbits"),
    *("fixedscaleoffset", "quantize", "bitround", "astype"),
}
_WHOLE = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_V3_TYPES = {"bool", *_WHOLE, "float16", "float32", "float64"}
_V2_TYPE = re.compile(r"[<>|][biuf][1248]")
_KINDS = {"time": "T", "channel": "C"}
VoxelSizeFound = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Node:
    """An array of numbers. chunks: what is decoded at once. dimension_names: empty where there are none."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    dimension_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """What OME metadata say of an array. axes: a letter for each dimension, or empty."""

    axes: str = ""
    voxel_size_nm: VoxelSizeFound = (None, None, None)
    channel_names: tuple[str, ...] = ()


@dataclass
class Tree:
    """The arrays of a folder by their path, what OME says of them, and which is the image in full resolution.

    reason: a sentence about arrays that were left out, starting with a space; empty where there were none.
    """

    arrays: dict[str, Node] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    first_image: str | None = None
    reason: str = ""


def read_tree(source: SourceFile, root: Path) -> Tree:
    """Walks a Zarr folder and reads its metadata. Raises DataError where it is none, or has too many nodes."""
    tree, waiting, seen = Tree(), [""], 0
    while waiting:
        path = waiting.pop(0)
        seen += 1
        if seen > MAX_NODES:
            raise DataError(f"{source.name} has more than {MAX_NODES:,} groups and arrays. Import one of its folders.")
        kind, metadata, attributes = _node(source, root / path)
        if kind == "":
            if not path:
                raise DataError(f"{source.name} is not a Zarr folder: it has no zarr.json, .zarray or .zgroup.")
            continue
        if kind == "array":
            _add_array(tree, path, metadata)
            continue
        _add_scales(tree, path, attributes)
        if path.count("/") < MAX_DEPTH:
            names = sorted(entry.name for entry in (root / path).iterdir() if entry.is_dir())
            waiting += [f"{path}/{name}" if path else name for name in names]
    return tree


def _node(source: SourceFile, folder: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Whether a folder is an array, a group or neither, its metadata, and its attributes."""
    v3 = _json(source, folder / "zarr.json")
    if v3 is not None:
        return str(v3.get("node_type", "")), v3, _mapping(v3.get("attributes"))
    attributes = _mapping(_json(source, folder / ".zattrs"))
    array = _json(source, folder / ".zarray")
    if array is not None:
        return "array", array, attributes
    return ("group" if _json(source, folder / ".zgroup") is not None else ""), {}, attributes


def _json(source: SourceFile, path: Path) -> dict[str, Any] | None:
    try:
        size = path.stat().st_size
    except OSError:
        return None
    if size > MAX_JSON:
        raise DataError(f"{source.name} has a metadata file of {size:,} bytes ({path.name}), which is not sane.")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{source.name} is damaged: {path.name} is no readable JSON. Export it again.") from error
    if not isinstance(found, dict):
        raise DataError(f"{source.name} is damaged: {path.name} holds no metadata. Export it again.")
    return found


def _add_array(tree: Tree, path: str, metadata: dict[str, Any]) -> None:
    try:
        node = _v3_array(metadata) if metadata.get("zarr_format") == 3 else _v2_array(metadata)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        tree.reason = f" {path or 'The array'} has damaged metadata."
        return
    if isinstance(node, str):
        tree.reason = f" {path or 'The array'} {node}."
    elif 2 <= len(node.shape) <= 5:
        tree.arrays[path] = node


def _v3_array(metadata: dict[str, Any]) -> Node | str:
    """The array, or why it is not read."""
    if metadata["data_type"] not in _V3_TYPES:
        return f"holds values of the type {str(metadata['data_type'])[:40]!r}, not numbers"
    if refused := _refused_codecs(metadata["codecs"]):
        return refused
    chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    names = metadata.get("dimension_names") or ()
    return Node(
        _shape(metadata["shape"]),
        np.dtype(metadata["data_type"]),
        _shape(chunks),
        tuple(str(name) for name in names if name is not None),
    )


def _v2_array(metadata: dict[str, Any]) -> Node | str:
    said = metadata["dtype"]
    if not isinstance(said, str) or not _V2_TYPE.fullmatch(said):
        return f"holds values of the type {str(said)[:40]!r}, not numbers"
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or [])]
    if refused := _refused_codecs([{"name": codec["id"]} for codec in codecs if codec]):
        return refused
    return Node(_shape(metadata["shape"]), np.dtype(said), _shape(metadata["chunks"]))


def _refused_codecs(codecs: list[Any]) -> str:
    for codec in codecs:
        name = codec["name"] if isinstance(codec, dict) else codec
        if str(name).removeprefix("numcodecs.") not in _CODECS:
            return f"is packed with {str(name)[:40]!r}, which is not allowed"
        inner = _mapping(codec.get("configuration")) if isinstance(codec, dict) else {}
        for part in ("codecs", "index_codecs"):
            if refused := _refused_codecs(list(inner.get(part) or [])):
                return refused
    return ""


def _shape(said: Any) -> tuple[int, ...]:
    shape = tuple(int(side) for side in said)
    if not shape or min(shape) < 1:
        raise ValueError(shape)
    return shape


def _add_scales(tree: Tree, path: str, attributes: Mapping[str, Any]) -> None:
    """Notes what the OME metadata of a group say of the arrays below it; what makes no sense is passed over."""
    ome = _mapping(attributes.get("ome")) or attributes
    for multiscale in _list(ome.get("multiscales")):
        names = tuple(
            str(_mapping(channel).get("label", "")) for channel in _list(_mapping(ome.get("omero")).get("channels"))
        )
        for index, dataset in enumerate(_list(_mapping(multiscale).get("datasets"))):
            where = str(_mapping(dataset).get("path", ""))
            full = f"{path}/{where}" if path else where
            tree.scales[full] = _scale(_mapping(multiscale), _mapping(dataset), names if all(names) else ())
            if index == 0 and tree.first_image is None:
                tree.first_image = full


def _scale(multiscale: Mapping[str, Any], dataset: Mapping[str, Any], channel_names: tuple[str, ...]) -> Scale:
    letters, units = "", []
    for axis in _list(multiscale.get("axes")):
        described = _mapping(axis) or {"name": axis}
        name = str(described.get("name", ""))
        letters += _KINDS.get(str(described.get("type", "")), name.upper() if len(name) == 1 else "?")
        units.append(str(described.get("unit", "")))
    if set(letters) - set("TCZYX") or len(set(letters)) < len(letters) or not {"Y", "X"} <= set(letters):
        return Scale(channel_names=channel_names)
    sizes = [1.0] * len(letters)
    said = [_list(part.get("coordinateTransformations")) for part in (dataset, multiscale)]
    for transform in itertools.chain(*said):
        factors = _list(_mapping(transform).get("scale"))
        if len(factors) == len(sizes) and all(isinstance(f, int | float) and math.isfinite(f) for f in factors):
            sizes = [size * float(factor) for size, factor in zip(sizes, factors, strict=True)]
    lengths = [length_nm(size, nanometres(unit)) for size, unit in zip(sizes, units, strict=True)]
    found = dict(zip(letters, lengths, strict=True))
    return Scale(letters, (found.get("Z"), found.get("Y"), found.get("X")), channel_names)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
