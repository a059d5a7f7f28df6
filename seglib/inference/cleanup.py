"""Small pieces and holes taken out of labels, slab by slab, with the same result as over the whole volume at once.

Pieces hang together by faces of voxels. Each slab of planes is taken apart by itself; pieces of neighbouring slabs
that touch are then one (a union over the pairs), and their sizes add up. A slab is taken apart again where it is
needed, so that no volume of piece numbers is ever kept.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from seglib.config.predicting import CleaningConfig

# Voxels that are taken apart at once.
AT_ONCE = 2**25
# Class ids are 8 bits.
IDS = 256

# Class ids (0 background) uint8 (dz, Y, X) of a slab by its number, the same each time.
Slabs = Callable[[int], NDArray[np.uint8]]
Ints = NDArray[np.int64]


def slab_starts(shape_zyx: Sequence[int], at_once: int = AT_ONCE) -> list[int]:
    """The first plane of each slab, and the end of the last one."""
    depth, height, width = shape_zyx
    thick = max(1, at_once // (height * width))
    return [*range(0, depth, thick), depth]


def cleaned(slabs: Slabs, count: int, config: CleaningConfig, step: Callable[[], None]) -> Slabs:
    """Slabs without pieces that are too small and without holes; small pieces go first.

    A hole is background that does not reach the volume's border (in a single plane: the border of the plane) and
    touches one class alone, which it becomes.
    step: called after each slab that was taken apart; raises where the work is to end.
    """
    if config.smallest > 1:
        slabs = _without(slabs, count, config.smallest, step)
    if config.holes:
        slabs = _filled(slabs, count, config.holes, step)
    return slabs


def passes(config: CleaningConfig) -> int:
    """How often `cleaned` calls `step` for each slab before it returns."""
    return (config.smallest > 1) + bool(config.holes)


@dataclass(frozen=True)
class _Slab:
    """A slab taken apart. parts: number of the piece of each voxel, from 1 on, 0 for none.

    above, below: the planes next to it in the volume, where there are such.
    """

    ids: NDArray[np.uint8]
    parts: NDArray[np.uint32]
    above: NDArray[np.uint8] | None
    below: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _Pieces:
    """Pieces of all slabs. offsets: of each slab's numbers; whole: which piece of the whole volume each is part of.

    sizes: of whole pieces, in voxels.
    """

    offsets: list[int]
    whole: Ints
    sizes: Ints

    def table(self, number: int, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """By number of a slab's piece, the value of the whole piece; 0 for voxels of none."""
        own = self.whole[self.offsets[number] : self.offsets[number + 1]]
        return np.concatenate([np.zeros(1, np.uint8), values[own]])


def _without(slabs: Slabs, count: int, smallest: int, step: Callable[[], None]) -> Slabs:
    pieces = _pieces(_taken_apart(slabs, count, _same, step))
    kept = (pieces.sizes >= smallest).astype(np.uint8)

    def without(number: int) -> NDArray[np.uint8]:
        ids = slabs(number)
        return ids * pieces.table(number, kept)[_apart(ids)]

    return without


def _filled(slabs: Slabs, count: int, holes: int, step: Callable[[], None]) -> Slabs:
    around: list[NDArray[np.bool_]] = []
    apart = _taken_apart(slabs, count, _background, step)
    pieces = _pieces(_noting(apart, around))
    classes = np.zeros((pieces.sizes.size, IDS), bool)
    np.logical_or.at(classes, pieces.whole, np.concatenate(around))
    enclosed = (pieces.sizes <= holes) & ~classes[:, 0] & (classes.sum(1) == 1)
    becomes = np.where(enclosed, classes.argmax(1), 0).astype(np.uint8)

    def filled(number: int) -> NDArray[np.uint8]:
        ids = slabs(number)
        return ids + pieces.table(number, becomes)[_apart(_background(ids))]

    return filled


def _taken_apart(
    slabs: Slabs, count: int, kinds: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], step: Callable[[], None]
) -> Iterator[_Slab]:
    """All slabs in order. kinds: what hangs together where it is the same, 0 for nothing."""
    above, ids = None, slabs(0)
    for number in range(count):
        following = slabs(number + 1) if number + 1 < count else None
        yield _Slab(ids, _apart(kinds(ids)), above, None if following is None else following[0])
        step()
        if following is not None:
            above, ids = ids[-1], following


def _pieces(apart: Iterable[_Slab]) -> _Pieces:
    offsets, sizes, pairs, last = [0], [], [], None
    for slab in apart:
        found = np.bincount(slab.parts.ravel(), minlength=1)[1:]
        if last is not None and slab.above is not None:
            # Pieces are of one kind: both of a class, or both background.
            both = (last > 0) & (slab.parts[0] > 0) & (slab.above == slab.ids[0])
            touching = np.stack([last[both], slab.parts[0][both]]).astype(np.int64) - 1
            pairs.append(touching + np.array([[offsets[-2]], [offsets[-1]]]))
        sizes.append(found)
        offsets.append(offsets[-1] + found.size)
        last = slab.parts[-1]
    total = offsets[-1]
    a, b = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_matrix((np.ones(a.size, bool), (a, b)), shape=(total, total))
    number, whole = connected_components(graph, directed=False)
    added = np.bincount(whole, weights=np.concatenate(sizes), minlength=number)
    return _Pieces(offsets, whole.astype(np.int64), added.astype(np.int64))


def _noting(apart: Iterable[_Slab], around: list[NDArray[np.bool_]]) -> Iterator[_Slab]:
    """The same slabs; notes what each piece touches, (pieces, IDS), where 0 stands for the volume's border."""
    for slab in apart:
        parts, ids = slab.parts, slab.ids
        touches = np.zeros((int(parts.max()) + 1, IDS), bool)
        for axis in range(3):
            front, back = [slice(None)] * 3, [slice(None)] * 3
            front[axis], back[axis] = slice(None, -1), slice(1, None)
            _note(touches, parts[tuple(front)], ids[tuple(back)])
            _note(touches, parts[tuple(back)], ids[tuple(front)])
        flat = slab.above is None and slab.below is None and len(ids) == 1
        for side, beyond in ((0, slab.above), (-1, slab.below)):
            if beyond is not None:
                _note(touches, parts[side], beyond)
            elif not flat:
                touches[parts[side], 0] = True
        for edge in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
            touches[edge, 0] = True
        around.append(touches[1:])
        yield slab


def _note(touches: NDArray[np.bool_], parts: NDArray[np.uint32], ids: NDArray[np.uint8]) -> None:
    beside = (parts > 0) & (ids > 0)
    touches[parts[beside], ids[beside]] = True


def _same(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return ids


def _background(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (ids == 0).astype(np.uint8)


def _apart(kinds: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Numbers of the pieces of equal kinds that hang together by faces, from 1 on."""
    return np.asarray(cc3d.connected_components(kinds, connectivity=6, out_dtype=np.uint32), np.uint32)
