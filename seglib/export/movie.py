"""A movie through z: the grey image with the labels over it, as GIF or MP4, frame by frame."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seglib.errors import DataError
from seglib.export.placing import placed
from seglib.export.planes import Scene, fitting_pixels, overlay
from seglib.export.sources import Watch

if TYPE_CHECKING:
    from PIL import Image

LARGEST_SIDE = 1024
# A GIF has 256 colours for all its frames: they are found from so many of them.
SAMPLED_FRAMES = 8


def write_mp4(scene: Scene, path: Path, watch: Watch) -> None:
    """Writes all planes along z as H.264 in an MP4, at most 1024 pixels wide or high; one frame is in memory.

    Sides are even. Colours are kept at half the resolution of the grey values, as players expect it.
    Raises DataError for a volume of one plane, and for a view along y or x, whose frames would each read all of it.
    """
    import av

    _check(scene)
    height, width = fitting_pixels(scene, LARGEST_SIDE, even=True)
    rate = scene.view.frames_per_second
    with (
        placed(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as file,
    ):
        stream = file.add_stream("libx264", rate=Fraction(rate), options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in _frames(scene, (height, width), watch, path.name):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def write_gif(scene: Scene, path: Path, watch: Watch) -> None:
    """Writes all planes along z as a GIF that runs for ever, at most 1024 pixels wide or high; one frame is in memory.

    All frames share 256 colours. A GIF counts in hundredths of a second: 30 frames a second become 33.
    Raises DataError as `write_mp4` does.
    """
    # Saving a list of frames with Pillow keeps all of them; its two older functions give them one by one.
    from PIL import GifImagePlugin

    _check(scene)
    shape = fitting_pixels(scene, LARGEST_SIDE)
    colours = _shared_colours(scene, shape)
    pause_ms = 10 * max(2, round(100 / scene.view.frames_per_second))
    with placed(path) as temporary, temporary.open("wb") as file:
        header, _ = GifImagePlugin.getheader(colours, info={"loop": 0, "optimize": False})
        file.writelines(header)
        for picture in _frames(scene, shape, watch, path.name):
            file.writelines(GifImagePlugin.getdata(_quantised(picture, colours), duration=pause_ms))
        file.write(b";")


def _check(scene: Scene) -> None:
    if scene.view.axis != "z" or scene.volume.shape_zyx[0] < 2:
        raise DataError("A movie goes through z and needs 2 planes or more: make a figure of this one.")


def _frames(scene: Scene, shape: tuple[int, int], watch: Watch, text: str) -> Iterator[NDArray[np.uint8]]:
    depth = scene.volume.shape_zyx[0]
    for plane in range(depth):
        watch.step(plane, depth, text)
        yield overlay(scene, plane, shape)
    watch.step(depth, depth, text)


def _shared_colours(scene: Scene, shape: tuple[int, int]) -> "Image.Image":
    """A picture of the movie's size whose palette holds the colours that suit frames from all of it."""
    from PIL import Image

    depth = scene.volume.shape_zyx[0]
    planes = sorted({round(plane) for plane in np.linspace(0, depth - 1, SAMPLED_FRAMES)})
    sample = np.concatenate([overlay(scene, plane, shape) for plane in planes])
    palette = Image.fromarray(sample).quantize(256)
    return palette.crop((0, 0, shape[1], shape[0]))


def _quantised(picture: NDArray[np.uint8], colours: "Image.Image") -> "Image.Image":
    from PIL import Image

    return Image.fromarray(picture).quantize(palette=colours, dither=Image.Dither.NONE)
