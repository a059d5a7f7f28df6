"""One plane of an image with the labels over it, as a picture of red, green and blue."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seglib.data.palette import PALETTE, palette_entries
from seglib.data.pictures import grey_picture, painted_objects
from seglib.data.volumes import Array, Volume, VoxelSize
from seglib.errors import DataError

Axis = Literal["z", "y", "x"]
# A GIF shows no more than 50, and a screen 60.
MOST_FRAMES_PER_SECOND = 50


@dataclass(frozen=True)
class View:
    """What a picture shows.

    axis, plane: which plane, counted from 0; a movie goes through all along z. channel: of the image.
    filled: whether objects are painted over or only their outline is drawn.
    frames_per_second: of a movie.
    """

    axis: Axis = "z"
    plane: int = 0
    channel: int = 0
    filled: bool = False
    frames_per_second: int = 10


@dataclass(frozen=True)
class Scene:
    """What pictures are made of: an image, and labels (Z, Y, X) of its size."""

    volume: Volume
    labels: Array
    view: View

    @property
    def sides_nm(self) -> tuple[float, float]:
        """Height and width of a plane."""
        height, width = plane_sides(self.volume.shape_zyx, self.view.axis)
        y_nm, x_nm = plane_sides(self.volume.voxel_size_nm, self.view.axis)
        return height * y_nm, width * x_nm


def checked_scene(volume: Volume, labels: Array, view: View) -> Scene:
    """A scene. Raises DataError where the two differ in size, and for a plane, channel or rate that cannot be."""
    if labels.shape != volume.shape_zyx:
        raise DataError(
            f"The labels are {labels.shape} but the image is {volume.shape_zyx}: they do not belong together."
        )
    if view.axis not in ("z", "y", "x"):
        raise DataError(f"The axis of a plane is z, y or x, not {view.axis!r}.")
    count = volume.shape_zyx["zyx".index(view.axis)]
    if not 0 <= view.plane < count:
        raise DataError(f"Plane {view.plane} was asked for along {view.axis}, which has planes 0 to {count - 1}.")
    if not 0 <= view.channel < volume.channels:
        raise DataError(f"Channel {view.channel} was asked for of an image with {volume.channels} (counted from 0).")
    if not 1 <= view.frames_per_second <= MOST_FRAMES_PER_SECOND:
        raise DataError(f"A movie has 1 to {MOST_FRAMES_PER_SECOND} frames per second, not {view.frames_per_second}.")
    return Scene(volume, labels, view)


def overlay(scene: Scene, plane: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The plane as a picture (*shape, 3): grey image, labels in the viewer's colours.

    shape: height and width in pixels, which may stretch the plane; images are averaged, labels picked.
    """
    from PIL import Image

    where: list[Any] = [slice(None)] * 3
    where["zyx".index(scene.view.axis)] = plane
    channel, volume = scene.view.channel, scene.volume
    low, high = volume.windows[channel] if channel < len(volume.windows) else volume.contrast
    grey = grey_picture(np.nan_to_num(np.asarray(volume.image[(channel, *where)]), nan=low), low, high)[..., 0]
    scaled = Image.fromarray(np.ascontiguousarray(grey)).resize(shape[::-1], Image.Resampling.BOX)
    picture = np.repeat(np.asarray(scaled)[..., None], 3, axis=-1)
    labels = _picked(np.asarray(scene.labels[tuple(where)]), shape)
    if scene.view.filled:
        return painted_objects(picture, labels)
    inside = outline(labels)
    return np.where(inside[..., None], PALETTE[palette_entries(labels)], picture)


def outline(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where labels (Y, X) other than 0 touch another value, up, down, left or right."""
    edge = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[first] != labels[second]
        edge[first] |= differs
        edge[second] |= differs
    return edge & (labels != 0)


def fitting_pixels(scene: Scene, most: int, *, even: bool = False) -> tuple[int, int]:
    """Height and width in square pixels of a plane of the scene: its voxels' own, at most `most` along a side.

    even: rounds sides up to whole twos, as video needs them.
    """
    height_nm, width_nm = scene.sides_nm
    finest = min(plane_sides(scene.volume.voxel_size_nm, scene.view.axis))
    side = max(finest, max(height_nm, width_nm) / most)
    step = 2 if even else 1
    height, width = (max(step, round(length / side / step) * step) for length in (height_nm, width_nm))
    return height, width


def plane_sides(sizes: tuple[Any, Any, Any] | VoxelSize, axis: Axis) -> tuple[Any, Any]:
    """Of sizes (z, y, x) those of the rows and columns of a plane across `axis`."""
    rows, columns = (size for name, size in zip("zyx", sizes, strict=True) if name != axis)
    return rows, columns


def _picked(labels: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The label in the middle of each pixel."""
    rows, columns = (
        ((np.arange(to) + 0.5) * at / to).astype(np.intp) for to, at in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
