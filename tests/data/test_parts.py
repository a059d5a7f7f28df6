"""Parts on disk and parts in memory are the same to whoever reads them, and neither shows what lies beyond."""

import numpy as np
import pytest

from seglib.config.labels import IGNORE, Borders, LabelScheme
from seglib.data.parts import RegionView, open_parts, part_bytes
from seglib.data.splits import Region
from seglib.data.volumes import Volume

REGIONS = (Region(0, (1, 2, 3), (7, 18, 20)), Region(1, (0, 0, 0), (4, 9, 10)))
OBJECTS = LabelScheme(kind="instances", ignore=(5,), borders=Borders(kind="touching", width=2))
EVERYTHING, NOTHING = 10**9, 0


def made(shape, seed):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 7, (3, 7, 7)), np.ones((3, 3, 3), int))[: shape[0], : shape[1], : shape[2]]
    image = rng.integers(0, 60_000, (2, *shape), dtype=np.uint16)
    return Volume(f"leaf{seed}", image, labels.astype(np.uint16))


VOLUMES = (made((8, 20, 21), 0), made((4, 9, 10), 1))


def opened(memory, scheme=OBJECTS, task="classes"):
    return open_parts(VOLUMES, REGIONS, scheme=scheme, task=task, memory_bytes=memory)


@pytest.mark.parametrize("start", [(0, 0, 0), (2, 5, 7), (-2, -3, 4), (4, 12, 14)])
@pytest.mark.parametrize("task", ["classes", "foreground"])
def test_a_patch_is_the_same_from_disk_and_from_memory(start, task):
    """Borders included, which depend on neighbours."""
    kept, used = opened(EVERYTHING, task=task)
    read, nothing = opened(NOTHING, task=task)
    assert [part.in_memory for part in kept] == [True, True]
    assert [part.in_memory for part in read] == [False, False]
    assert (used, nothing) == (sum(part_bytes(VOLUMES[r.volume], r) for r in REGIONS), 0)
    image, target = kept[0].patch(start, (5, 8, 9))
    other_image, other_target = read[0].patch(start, (5, 8, 9))
    assert np.array_equal(image, other_image)
    assert np.array_equal(target, other_target)
    assert image.shape == (2, 5, 8, 9)
    assert target.dtype == np.uint8
    assert np.array_equal(kept[0].target_at(start, (5, 8, 9)), read[0].target_at(start, (5, 8, 9)))


@pytest.mark.parametrize("memory", [EVERYTHING, NOTHING])
def test_a_window_that_sticks_out_is_mirrored_and_not_annotated_there(memory):
    part = opened(memory)[0][0]
    image, target = part.patch((-2, -3, 14), (4, 5, 6))
    inside = VOLUMES[0].image[:, 1:7, 2:18, 3:20]
    wanted = inside[:, [1, 0, 0, 1]][:, :, [2, 1, 0, 0, 1]][..., [14, 15, 16, 16, 15, 14]]
    assert np.array_equal(image, wanted)
    annotated = np.zeros((4, 5, 6), bool)
    annotated[2:, 3:, :3] = True
    assert (target[~annotated] == 255).all()
    assert np.array_equal(part.target[0:2, 0:2, 14:17], target[2:, 3:, :3])


def test_the_smallest_parts_are_kept_first():
    small = part_bytes(VOLUMES[1], REGIONS[1])
    parts, used = opened(small)
    assert [part.in_memory for part in parts] == [False, True]
    assert used == small == 4 * 9 * 10 * (2 * 2 + 1)
    assert [part.in_memory for part in opened(small - 1)[0]] == [False, False]


def test_what_lies_beyond_a_region_cannot_be_read():
    view = RegionView(VOLUMES[0].image, REGIONS[0])
    whole = VOLUMES[0].image[:, 1:7, 2:18, 3:20]
    assert view.shape == whole.shape
    for key in [
        (slice(None), slice(-100, 100), slice(0, 99), slice(-3, None)),
        (slice(0, 1), slice(2, 4)),
        slice(1, 2),
    ]:
        assert np.array_equal(view[key], whole[key])
    with pytest.raises(IndexError, match="without gaps"):
        view[:, ::2]


def test_a_window_that_does_not_meet_the_part_is_an_error():
    with pytest.raises(IndexError, match="outside"):
        opened(EVERYTHING)[0][0].patch((6, 0, 0), (2, 4, 4))


def test_borders_do_not_depend_on_what_another_part_holds():
    """An object beyond the region, which belongs to validation, must not show in a target that trains."""
    changed = VOLUMES[0].labels.copy()
    changed[:, :2], changed[:, 18:] = 6, 6
    other = Volume("other", VOLUMES[0].image, changed)
    for memory in (EVERYTHING, NOTHING):
        (part,), _ = open_parts((other,), REGIONS[:1], scheme=OBJECTS, task="classes", memory_bytes=memory)
        assert np.array_equal(part.target[:, :, :], opened(EVERYTHING)[0][0].target)


def test_of_a_volume_without_labels_nothing_is_annotated():
    bare = Volume("bare.tif", VOLUMES[0].image)
    for memory in (EVERYTHING, NOTHING):
        (part,), _ = open_parts((bare,), REGIONS[:1], scheme=OBJECTS, task="foreground", memory_bytes=memory)
        assert part.in_memory == (memory == EVERYTHING)
        image, target = part.patch((0, 0, 0), (2, 4, 4))
        assert np.array_equal(image, VOLUMES[0].image[(slice(None), *REGIONS[0].slices)][:, :2, :4, :4])
        assert (target == IGNORE).all()
