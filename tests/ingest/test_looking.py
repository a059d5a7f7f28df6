"""What would be imported is told and drawn, and nothing is stored."""

import io

import numpy as np
import pytest
from PIL import Image

from seglib.data.pairing import Item
from seglib.data.readers import SourceFile
from seglib.errors import WorkCancelled
from seglib.ingest import ImportRequest
from seglib.ingest.looking import LOOKED_AT, PICTURE_SIDE, look
from seglib.ingest.staging import Watch


def saved(folder, name, array) -> SourceFile:
    if name.endswith(".npy"):
        np.save(folder / name, array)
    else:
        Image.fromarray(array).save(folder / name)
    return SourceFile(folder / name, name)


def request(*items, **asked) -> ImportRequest:
    return ImportRequest(name="x", items=items, **asked)


def picture(preview) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(preview.picture)))


def test_the_middle_plane_is_drawn_with_its_labels(tmp_path):
    stack = np.zeros((5, 40, 60), np.uint16)
    stack[2, :, 30:] = 1000
    labels = np.zeros((5, 40, 60), np.uint8)
    labels[2, 10:20, 40:50] = 1
    item = Item("a", (saved(tmp_path, "a.npy", stack),), (saved(tmp_path, "l.npy", labels),))
    preview = look(request(item), Watch(0))
    drawn = picture(preview)
    assert drawn.shape == (40, 60, 3)
    assert drawn[0, 0].tolist() == [0, 0, 0]
    assert drawn[0, 59].tolist() == [255, 255, 255]
    assert len(set(drawn[15, 45].tolist())) > 1  # coloured
    assert (preview.image.shape, preview.image.axes, preview.labels.name) == ((5, 40, 60), "ZYX", "l.npy")
    (volume,) = preview.volumes
    assert (volume.shape_czyx, volume.dtype, volume.image_files, volume.label_files) == ((1, 5, 40, 60), "uint16", 1, 1)
    assert preview.problems == ()


def test_colours_are_drawn_as_they_are_and_large_planes_smaller(tmp_path):
    rgb = np.zeros((PICTURE_SIDE + 50, 30, 3), np.uint8)
    rgb[..., 1] = 200
    mask = np.zeros_like(rgb)
    mask[:100] = (255, 0, 0)
    item = Item("a", (saved(tmp_path, "a.png", rgb),), (saved(tmp_path, "m.png", mask),))
    drawn = picture(look(request(item), Watch(0)))
    assert max(drawn.shape) <= PICTURE_SIDE
    assert drawn[-1, -1].tolist() == [0, 200, 0]
    assert drawn[0, 0, 0] > 100


def test_problems_are_told_not_raised_and_choices_are_shown(tmp_path):
    np.savez(tmp_path / "a.npz", raw=np.zeros((3, 4, 5)), other=np.zeros((2, 6, 6)))
    source = SourceFile(tmp_path / "a.npz", "a.npz")
    preview = look(request(Item("a", (source,)), axes="TYX"), Watch(0))
    assert "3 time points" in preview.problems[0]
    assert (preview.volumes, preview.picture) == ((), b"")
    assert {member.name for member in preview.image.members} == {"raw", "other"}
    assert preview.image.axes == "ZYX"  # as the file would be read without the person's word


def test_of_very_many_pictures_some_are_looked_at(tmp_path):
    sources = [saved(tmp_path, f"cell_{number}.png", np.zeros((4, 4), np.uint8)) for number in range(LOOKED_AT + 50)]
    preview = look(request(*[Item(source.name, (source,)) for source in sources]), Watch(0))
    assert preview.looked_at < preview.items == LOOKED_AT + 50
    assert preview.layout == "volumes"


def test_the_sections_of_a_long_stack_are_understood_together(tmp_path):
    sources = [saved(tmp_path, f"s{number}.png", np.zeros((4, 70), np.uint8)) for number in range(LOOKED_AT + 50)]
    preview = look(request(*[Item(source.name, (source,)) for source in sources]), Watch(0))
    assert preview.layout == "sections"
    assert [volume.shape_czyx for volume in preview.volumes] == [(1, LOOKED_AT + 50, 4, 70)]


def test_looking_can_be_cancelled(tmp_path):
    with pytest.raises(WorkCancelled):
        look(request(), Watch(0, cancelled=lambda: True))
