"""Which of several arrays in a file is meant."""

from collections.abc import Sequence

from seglib.data.readers.base import Member, SourceFile, size_text
from seglib.errors import DataError

# In the order in which they are preferred; the last part of an array's path counts.
_USUAL = (
    *("image", "images", "raw", "data", "volume", "main", "exported_data", "arr_0", "0"),
    *("labels", "label", "mask", "masks", "gt", "segmentation", "seg"),
)


def pick_member(source: SourceFile, members: Sequence[Member]) -> str:
    """The name of the array asked for, else of one with a usual name, else of the largest.

    Raises DataError where the array asked for is not there.
    """
    names = [member.name for member in members]
    if source.member:
        wanted = source.member.strip("/")
        if wanted not in names:
            shown = ", ".join(f"{member.name} ({size_text(member.shape)})" for member in members[:10])
            raise DataError(f"{source.name} holds no array {source.member!r}. It holds: {shown}.")
        return wanted
    for usual in _USUAL:
        for name in names:
            if name.rsplit("/", 1)[-1].casefold() == usual:
                return name
    sizes = [_voxels(member.shape) for member in members]
    return names[sizes.index(max(sizes))]


def _voxels(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
