"""Limits on the blocks into which array formats cut their numbers, since a header may claim any size for those too."""

import math

from seglib.data.readers.base import HARMLESS_BYTES, MAX_RATIO, size_text
from seglib.errors import DataError

# A block is unpacked whole, however small the window that is read.
MAX_BLOCK_BYTES = 1 << 30
# Every block costs time and memory, also one that is not there; many are sane only where each holds something.
MANY_BLOCKS = 1_000_000
TINY_BLOCK_BYTES = 4096


def check_blocks(name: str, shape: tuple[int, ...], block: tuple[int, ...], itemsize: int, file_bytes: int) -> None:
    """Raises DataError where an array of `shape` is cut into blocks that are too large, or too many and tiny.

    block: what is unpacked at once, in voxels along each dimension. itemsize: bytes a voxel. file_bytes: as packed.
    """
    block_bytes = math.prod(int(side) for side in block) * itemsize
    if block_bytes > MAX_BLOCK_BYTES or block_bytes > max(HARMLESS_BYTES, MAX_RATIO * file_bytes):
        raise DataError(
            f"{name} is packed in blocks (chunks) of {size_text(block)}, which is {block_bytes:,} bytes each; at most "
            f"{MAX_BLOCK_BYTES:,} can be read. Save it again with smaller chunks, such as 64 × 64 × 64."
        )
    count = math.prod(math.ceil(side / part) for side, part in zip(shape, block, strict=True))
    if count > MANY_BLOCKS and block_bytes < TINY_BLOCK_BYTES:
        raise DataError(
            f"{name} is cut into {count:,} blocks (chunks) of {block_bytes:,} bytes, which takes too long to read. "
            "Save it again with larger chunks, such as 64 × 64 × 64."
        )
