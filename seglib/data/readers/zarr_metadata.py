"""What the metadata files of a Zarr folder say, read as plain JSON, with an allow-list of what may be decoded."""

import json
import math
import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seglib.data.readers.base import SourceFile, unreadable
from seglib.data.readers.sources import has_control
from seglib.data.readers.zarr_ome import OmeArray, mapping, read_multiscales
from seglib.errors import DataError

MAX_JSON = 8 << 20
MAX_JSON_IN_ALL = 64 << 20
MAX_NODES = 10_000
MAX_DEPTH = 8
MAX_BLOCKS_OF_SHARD = 1_000_000
# Codecs that turn bytes into numbers; pickle, json, msgpack and vlen-* would make objects of them.
_COMMON = {
    *("blosc", "gzip", "zstd", "zlib", "bz2", "lz4", "lzma", "delta", "shuffle", "packbits"),
    *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"),
    *("fixedscaleoffset", "quantize", "bitround", "astype"),
}
_SHARDING = "sharding_indexed"
_V3_CODECS = {"bytes", "transpose", _SHARDING, "crc32c", "blosc", "gzip", "zstd", *(f"numcodecs.{c}" for c in _COMMON)}
_LOSSY = {"fixedscaleoffset", "quantize", "bitround", "astype"}
_TYPES_OF_CODEC = ("dtype", "astype", "encode_dtype", "decode_dtype")
_WHOLE = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_V3_TYPES = {"bool", *_WHOLE, "float16", "float32", "float64"}
_V2_TYPE = re.compile(r"[<>|][biuf][1248]")


class _LeftOut(Exception):
    """An array that is not read; the text says why, to follow its name."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """An array of numbers.

    chunks: what a file of it holds. block: what is unpacked at once, smaller than a chunk in sharded arrays.
    dimension_names: one for each dimension, or none at all. zarr_format: 2 or 3.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    block: tuple[int, ...]
    zarr_format: Literal[2, 3]
    lossy: bool = False
    dimension_names: tuple[str, ...] = ()


@dataclass
class Tree:
    """The arrays of a folder by their path, what OME says of arrays, and which is the image in full resolution.

    first_image: its path, whether it can be read or not; None where there is no OME metadata.
    left_out: for each array that cannot be read, its path and why.
    """

    arrays: dict[str, Node] = field(default_factory=dict)
    ome: dict[str, OmeArray] = field(default_factory=dict)
    first_image: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """A sentence about arrays that were left out, starting with a space; empty where there were none."""
        shown = [f"{path or 'The array'} {why}" for path, why in list(self.left_out.items())[:3]]
        return f" {'; '.join(shown)}." if shown else ""


def read_tree(source: SourceFile, root: Path) -> Tree:
    """Walks a Zarr folder and reads its metadata; of what cannot be read, says why.

    Raises DataError where it is no Zarr folder, its metadata are damaged, or it has too many groups and arrays.
    """
    tree, reader, nodes, is_zarr = Tree(), _JsonReader(source), 0, False
    waiting = deque([("", 0)])
    first_labels: str | None = None
    while waiting:
        path, depth = waiting.popleft()
        nodes += 1
        if nodes > MAX_NODES:
            raise DataError(f"{source.name} has more than {MAX_NODES:,} groups and arrays. Import one of its folders.")
        kind, metadata, attributes = _node(reader, root / path)
        is_zarr = is_zarr or kind != ""
        if kind == "array":
            _add_array(tree, path, metadata)
            continue
        found = read_multiscales(path, attributes)
        tree.ome = {**found, **tree.ome}
        if found and "image-label" not in attributes and "image-label" not in mapping(attributes.get("ome")):
            tree.first_image = tree.first_image if tree.first_image is not None else next(iter(found))
        elif found and first_labels is None:
            first_labels = next(iter(found))
        if depth < MAX_DEPTH:
            waiting += [(f"{path}/{name}".lstrip("/"), depth + 1) for name in _folders(source, root / path)]
    if not is_zarr:
        raise DataError(
            f"{source.name} is not a Zarr folder: it has no zarr.json, .zarray or .zgroup. "
            "Give the folder that holds one of these, or copy the folder again, with hidden files."
        )
    if tree.first_image is None:
        tree.first_image = first_labels
    return tree


class _JsonReader:
    """Reads metadata files until they are too many bytes for a real image."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.bytes_read = 0

    def read(self, path: Path) -> dict[str, Any] | None:
        """What is in it, None where there is no such file. Raises DataError where it is no JSON of the right kind."""
        name = f"{path.name} in {self.source.name}"
        try:
            with path.open("rb") as file:
                text = file.read(MAX_JSON + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(self.source, error) from error
        self.bytes_read += len(text)
        if len(text) > MAX_JSON or self.bytes_read > MAX_JSON_IN_ALL:
            raise DataError(f"{name} is larger than metadata should be ({len(text):,} bytes). Export it again.")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name} is damaged: it is no readable JSON. Copy or export it again.") from error
        if not isinstance(found, dict):
            raise DataError(f"{name} is damaged: it holds no metadata. Copy or export it again.")
        return found


def _folders(source: SourceFile, folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not has_control(entry.name))
    except OSError as error:
        raise unreadable(source, error) from error


def _node(reader: _JsonReader, folder: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Whether a folder is an array, a group or neither (empty), its metadata, and its attributes."""
    v3 = reader.read(folder / "zarr.json")
    if v3 is not None:
        kind = v3.get("node_type")
        if v3.get("zarr_format") != 3 or kind not in ("array", "group"):
            raise DataError(
                f"zarr.json in {reader.source.name} is damaged: it holds no metadata of an array or group. "
                "Copy or export it again."
            )
        return str(kind), v3, mapping(v3.get("attributes"))
    array = reader.read(folder / ".zarray")
    if array is not None:
        return "array", array, {}
    attributes = reader.read(folder / ".zattrs")
    # Some programs write .zattrs only, or nothing for the folders between arrays.
    is_group = attributes is not None or reader.read(folder / ".zgroup") is not None
    return "group" if is_group else "", {}, attributes or {}


def _add_array(tree: Tree, path: str, metadata: dict[str, Any]) -> None:
    try:
        node = _v3_array(metadata) if metadata.get("zarr_format") == 3 else _v2_array(metadata)
    except _LeftOut as reason:
        tree.left_out[path] = str(reason)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        tree.left_out[path] = "has damaged metadata"
    else:
        if 2 <= len(node.shape) <= 5:
            tree.arrays[path] = node


def _v3_array(metadata: dict[str, Any]) -> Node:
    said = metadata["data_type"]
    if not isinstance(said, str) or said not in _V3_TYPES:
        raise _LeftOut(f"holds values of the type {_short(said)}, not numbers")
    if metadata["chunk_grid"]["name"] != "regular":
        raise _LeftOut("is cut into chunks of different sizes")
    codecs = [codec if isinstance(codec, dict) else {"name": codec} for codec in metadata["codecs"]]
    names = _check_v3_codecs(codecs)
    shape = _sides(metadata["shape"])
    chunks = _sides(metadata["chunk_grid"]["configuration"]["chunk_shape"], len(shape))
    block = chunks
    if codecs[0]["name"] == _SHARDING:
        inner = _sides(codecs[0]["configuration"]["chunk_shape"], len(shape))
        if math.prod(-(-side // part) for side, part in zip(chunks, inner, strict=True)) > MAX_BLOCKS_OF_SHARD:
            raise _LeftOut("has shards of too many chunks")
        # A codec around the shard has to unpack all of it.
        block = inner if len(codecs) == 1 else chunks
    dimension_names = metadata.get("dimension_names") or ()
    return Node(
        shape=shape,
        dtype=np.dtype(said),
        chunks=chunks,
        block=block,
        zarr_format=3,
        lossy=any(name.removeprefix("numcodecs.") in _LOSSY for name in names),
        dimension_names=tuple(str(name or "") for name in dimension_names),
    )


def _check_v3_codecs(codecs: Sequence[dict[str, Any]]) -> list[str]:
    """The names of all codecs, also of those within shards."""
    names = []
    for codec in codecs:
        name, configuration = codec["name"], mapping(codec.get("configuration"))
        if name not in _V3_CODECS:
            raise _LeftOut(f"is packed with {_short(name)}, which is not allowed")
        _check_codec_types(configuration)
        names.append(name)
        for part in ("codecs", "index_codecs"):
            inner = configuration.get(part) or []
            names += _check_v3_codecs([one if isinstance(one, dict) else {"name": one} for one in inner])
    return names


def _v2_array(metadata: dict[str, Any]) -> Node:
    said = metadata["dtype"]
    if not isinstance(said, str) or not _V2_TYPE.fullmatch(said):
        raise _LeftOut(f"holds values of the type {_short(said)}, not numbers")
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or [])]
    names = [codec["id"] for codec in codecs if codec]
    for name in names:
        if name not in _COMMON:
            raise _LeftOut(f"is packed with {_short(name)}, which is not allowed")
    for codec in codecs:
        _check_codec_types(mapping(codec))
    shape = _sides(metadata["shape"])
    chunks = _sides(metadata["chunks"], len(shape))
    lossy = any(name in _LOSSY for name in names)
    return Node(shape=shape, dtype=np.dtype(said), chunks=chunks, block=chunks, zarr_format=2, lossy=lossy)


def _check_codec_types(configuration: dict[str, Any]) -> None:
    for key in _TYPES_OF_CODEC:
        said = configuration.get(key)
        if said is not None and not (isinstance(said, str) and (_V2_TYPE.fullmatch(said) or said in _V3_TYPES)):
            raise _LeftOut(f"is packed with values of the type {_short(said)}, not numbers")


def _sides(said: Any, count: int | None = None) -> tuple[int, ...]:
    sides = tuple(side for side in said if isinstance(side, int) and not isinstance(side, bool) and side > 0)
    if len(sides) != len(said) or len(sides) != (len(said) if count is None else count):
        raise ValueError(said)
    return sides


def _short(said: Any) -> str:
    return repr(said)[:40]
