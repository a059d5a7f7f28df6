"""OME-TIFF: what its XML says is used, what it says of other files is counted and never opened."""

import builtins
import io
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.ome import is_ome
from seglib.data.readers.tiff import open_tiff
from seglib.errors import DataError

RNG = np.random.default_rng(0)
PAGES = RNG.integers(0, 255, (6, 12, 14)).astype(np.uint8)
SIZES = {"SizeX": 14, "SizeY": 12, "SizeZ": 3, "SizeC": 2, "SizeT": 1}
WHOLE = '<TiffData IFD="0" PlaneCount="6"/>'
OWN = "urn:uuid:00000000-0000-0000-0000-000000000001"
OTHER = "urn:uuid:00000000-0000-0000-0000-000000000002"


def pixels(inside: str = WHOLE, order: str = "XYCZT", **attributes: object) -> str:
    said = {"DimensionOrder": order, "Type": "uint8"} | SIZES | attributes
    text = " ".join(f'{name}="{value}"' for name, value in said.items())
    return f"<Pixels {text}>{inside}</Pixels>"


def ome(*images: str, own: str = "", before: str = "") -> str:
    identity = f' UUID="{own}"' if own else ""
    body = "".join(f'<Image ID="Image:{n}" Name="stain {n}">{image}</Image>' for n, image in enumerate(images))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{identity}>{body}</OME>'
    )


def block(file: str = "", identity: str = OTHER, **attributes: int) -> str:
    text = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<TiffData {text}><UUID FileName="{file}">{identity}</UUID></TiffData>'


def write(path: Path, xml: str, array: np.ndarray = PAGES, **options) -> SourceFile:
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(path, array, description=xml.encode(), metadata=None, **options)
    return SourceFile(path, path.name)


def read(image: ImageFile) -> np.ndarray:
    with image.opened() as read_window:
        return read_window(tuple(slice(0, side) for side in image.shape))


@pytest.mark.parametrize(
    ("order", "axes", "shape"),
    [("XYCZT", "ZC", (3, 2)), ("XYZCT", "CZ", (2, 3)), ("XYTCZ", "ZC", (3, 2)), ("XYZTC", "CZ", (2, 3))],
)
def test_planes_are_counted_in_the_order_of_the_xml(tmp_path, order, axes, shape):
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels(order=order))))
    assert (image.shape, image.axes, image.axes_known) == ((*shape, 12, 14), axes + "YX", True)
    assert image.chunks == (1, 1, 12, 14)
    assert (image.members, image.notes) == ((), ())
    np.testing.assert_array_equal(read(image), PAGES.reshape(*shape, 12, 14))


@pytest.mark.parametrize(
    "inside", ["", "<TiffData/>", '<TiffData PlaneCount="6"/>', '<TiffData IFD="0" NumPlanes="6"/>']
)
def test_planes_that_are_not_numbered_are_in_the_order_of_the_pages(tmp_path, inside):
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels(inside))))
    np.testing.assert_array_equal(read(image), PAGES.reshape(3, 2, 12, 14))


def test_every_plane_comes_from_the_page_that_the_xml_names(tmp_path):
    places = {(z, c): 5 - (2 * z + c) for z in range(3) for c in range(2)}
    blocks = (f'<TiffData FirstZ="{z}" FirstC="{c}" IFD="{page}"/>' for (z, c), page in places.items())
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels("".join(blocks))), compression="zlib"))
    for (z, c), page in places.items():
        np.testing.assert_array_equal(read(image)[z, c], PAGES[page])


def test_times_are_told_as_times(tmp_path):
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels(SizeC=1, SizeT=2))))
    assert (image.shape, image.axes) == ((2, 3, 12, 14), "TZYX")


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("", 1e3), ("µm", 1e3), ("nm", 1), ("mm", 1e6), ("Å", 0.1), ("pixel", None), ("reference frame", None)],
)
def test_the_voxel_size_comes_with_its_unit(tmp_path, unit, nm):
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2}
    units = {f"PhysicalSize{letter}Unit": unit for letter in "XYZ"} if unit else {}
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels(**sizes, **units))))
    expected = (None,) * 3 if nm is None else pytest.approx((2 * nm, 0.5 * nm, 0.25 * nm))
    assert image.voxel_size_nm == expected


@pytest.mark.parametrize("size", ["0", "-0", "nan", "inf", "1e400", "wide", ""])
def test_a_size_that_is_none_is_not_known(tmp_path, size):
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels(PhysicalSizeX=size, PhysicalSizeY="0.5"))))
    assert image.voxel_size_nm == (None, 500, None)


def test_channels_have_their_names_where_all_have_one(tmp_path):
    named = '<Channel ID="Channel:0:0" Name="DAPI"/><Channel ID="Channel:0:1" Name="actin&#10; &amp; more"/>'
    assert open_tiff(write(tmp_path / "a.tif", ome(pixels(named + WHOLE)))).channel_names == ("DAPI", "actin & more")
    half = named.replace(' Name="DAPI"', "")
    assert open_tiff(write(tmp_path / "a.tif", ome(pixels(half + WHOLE)))).channel_names == ()


def test_samples_of_a_pixel_are_not_channels(tmp_path):
    rgb = RNG.integers(0, 255, (3, 12, 14, 3)).astype(np.uint8)
    xml = ome(pixels('<Channel SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="3"/>', SizeC=3))
    image = open_tiff(write(tmp_path / "a.tif", xml, rgb, photometric="rgb"))
    assert (image.shape, image.axes) == ((3, 12, 14, 3), "ZYXS")
    np.testing.assert_array_equal(read(image), rgb)


def test_what_tifffile_writes_is_read_with_size_and_names(tmp_path):
    metadata = {
        "axes": "CZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 200.0,
        "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 1.0, "Channel": {"Name": ["red", "green"]},
    }  # fmt: skip
    array = PAGES.reshape(2, 3, 12, 14)
    tifffile.imwrite(tmp_path / "a.ome.tif", array, photometric="minisblack", metadata=metadata)
    image = open_tiff(SourceFile(tmp_path / "a.ome.tif", "a.ome.tif"))
    assert (image.axes, image.channel_names) == ("CZYX", ("red", "green"))
    assert image.voxel_size_nm == pytest.approx((1000, 200, 100))
    np.testing.assert_array_equal(read(image), array)


def test_one_of_several_images_of_different_sizes_can_be_chosen(tmp_path):
    small, large = PAGES[:2], RNG.integers(0, 60000, (3, 20, 30)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(small, photometric="minisblack", metadata={"axes": "ZYX", "Name": "small"})
        writer.write(large, photometric="minisblack", metadata={"axes": "CYX", "Name": "large"})
    source = SourceFile(tmp_path / "a.ome.tif", "a.ome.tif")
    first = open_tiff(source)
    assert [(member.name, member.shape, member.dtype) for member in first.members] == [
        ("Image:0 small", (2, 12, 14), "uint8"),
        ("Image:1 large", (3, 20, 30), "uint16"),
    ]
    np.testing.assert_array_equal(read(first), small)
    for member in ("Image:1 large", "Image:1"):
        second = open_tiff(SourceFile(source.path, source.name, member))
        assert (second.axes, second.members) == ("CYX", first.members)
        np.testing.assert_array_equal(read(second), large)
    with pytest.raises(DataError, match=r"a\.ome\.tif has no image x\. It has: Image:0 small, Image:1 large"):
        open_tiff(SourceFile(source.path, source.name, "x"))


@pytest.fixture
def opened_paths(monkeypatch) -> list[str]:
    """Every path that is opened from now on, by whatever way."""
    paths: list[str] = []

    def watched(function):
        def spy(path, *args, **options):
            paths.append(str(path))
            return function(path, *args, **options)

        return spy

    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", watched(module.open))
    return paths


@pytest.mark.parametrize(
    "named", ["../secret.ome.tif", "secret.ome.tif", "{folder}/secret.ome.tif", "%2e%2e/secret.ome.tif"]
)
def test_a_file_named_inside_is_never_opened(tmp_path, opened_paths, named):
    xml = ome(pixels(WHOLE), own=OTHER)
    for folder in (tmp_path, tmp_path / "inbox"):
        folder.mkdir(exist_ok=True)
        write(folder / "secret.ome.tif", xml, np.full((6, 12, 14), 77, np.uint8))
    blocks = WHOLE.replace("6", "3") + block(named.format(folder=tmp_path), IFD=0, FirstZ=2, PlaneCount=3)
    source = write(tmp_path / "inbox" / "a.tif", ome(pixels(blocks), own=OWN))
    opened_paths.clear()
    with pytest.raises(
        DataError, match=r"a\.tif is one of .* files over which Image:0 stain 0 is spread: it holds 4 of 6"
    ):
        open_tiff(source)
    assert set(opened_paths) == {str(source.path)}


def test_the_number_of_files_is_told_and_how_to_go_on(tmp_path):
    blocks = [block("a.tif", OWN, IFD=0, FirstZ=0, PlaneCount=2)]
    blocks += [block(f"b{z}.tif", f"urn:{z}", IFD=0, FirstZ=z, PlaneCount=2) for z in (1, 2)]
    with pytest.raises(DataError, match=r"a\.tif is one of 3 files .*it holds 2 of 6 planes.*bfconvert"):
        open_tiff(write(tmp_path / "a.tif", ome(pixels("".join(blocks)), own=OWN)))


def test_an_image_in_another_file_is_passed_over_for_one_in_this(tmp_path):
    there, here = block("other.tif", OTHER, IFD=0, PlaneCount=6), block("a.tif", OWN, IFD=0, PlaneCount=6)
    source = write(tmp_path / "a.tif", ome(pixels(there), pixels(here), own=OWN))
    image = open_tiff(source)
    assert [member.name for member in image.members] == ["Image:0 stain 0", "Image:1 stain 1"]
    np.testing.assert_array_equal(read(image), PAGES.reshape(3, 2, 12, 14))
    with pytest.raises(DataError, match="holds 0 of 6 planes"):
        open_tiff(SourceFile(source.path, source.name, "Image:0"))


@pytest.mark.parametrize(
    ("own", "identity", "name"), [(OWN, OWN, "old.tif"), ("", OWN, "old.tif"), (OWN, "", "x/A.TIF")]
)
def test_a_renamed_file_still_knows_itself(tmp_path, own, identity, name):
    source = write(tmp_path / "a.tif", ome(pixels(block(name, identity, IFD=0, PlaneCount=6)), own=own))
    np.testing.assert_array_equal(read(open_tiff(source)), PAGES.reshape(3, 2, 12, 14))


def test_planes_that_the_file_does_not_have_are_missed_by_name(tmp_path):
    with pytest.raises(DataError, match=r"a\.tif says that Image:0 stain 0 has 30 planes, but 24 of them are not"):
        open_tiff(write(tmp_path / "a.tif", ome(pixels("<TiffData/>", SizeZ=15))))
    with pytest.raises(DataError, match=r"6 planes, but 2 of them are not"):
        open_tiff(write(tmp_path / "a.tif", ome(pixels('<TiffData IFD="2" PlaneCount="6"/>'))))


@pytest.mark.parametrize(
    "harm",
    [
        '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        "<!doctype x>",
    ],
)
def test_xml_that_could_grow_or_reach_out_is_refused(tmp_path, opened_paths, harm):
    source = write(tmp_path / "a.tif", ome(pixels(), before=harm))
    opened_paths.clear()
    with pytest.raises(DataError, match=r"a\.tif has OME metadata with a DOCTYPE or ENTITY"):
        open_tiff(source)
    assert set(opened_paths) == {str(source.path)}


def test_xml_of_millions_of_elements_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.tif has more OME metadata than can be read"):
        open_tiff(write(tmp_path / "a.tif", ome(pixels("<a/>" * 3_000_001))))


def test_an_image_that_names_its_planes_again_and_again_is_not_believed(tmp_path):
    image = open_tiff(write(tmp_path / "a.tif", ome(pixels(WHOLE * 1000))))
    assert (image.shape, image.axes_known) == ((6, 12, 14), False)


def test_many_images_of_many_planes_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.tif names more planes than can be read"):
        open_tiff(write(tmp_path / "a.tif", ome(*[pixels("", SizeZ=1000, SizeC=100)] * 5)))


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<OME><Image>", "damaged"),
        ("<OME></OME>", "without an image"),
        ('<OME><BinaryOnly MetadataFile="x.companion.ome" UUID="u"/></OME>', "in another file"),
        (ome("<NoPixels/>"), "damaged"),
        (ome(""), "damaged"),
        (ome(pixels(order="XYZ")), "damaged"),
        (ome(pixels(order="ZYXCT")), "damaged"),
        (ome(pixels(SizeZ="x")), "damaged"),
        (ome(pixels(SizeZ="-3")), "damaged"),
        (ome(pixels(SizeZ=0)), "damaged"),
        (ome(pixels(SizeZ=10**9)), "damaged"),
        (ome(pixels(SizeZ=10**6, SizeT=10**6)), "damaged"),
        (ome(pixels(SizeX=15)), "planes of 12 × 15"),
        (ome(pixels('<TiffData IFD="-1"/>')), "damaged"),
        (ome(pixels('<TiffData FirstZ="99" IFD="0"/>')), "damaged"),
        (ome(pixels('<Channel SamplesPerPixel="2"/><Channel/>' + WHOLE)), "damaged"),
        (ome(pixels(WHOLE)).replace("</Pixels>", "\x01</Pixels>"), "damaged"),
    ],
)
def test_xml_that_is_wrong_is_noted_and_pages_become_planes(tmp_path, xml, said):
    image = open_tiff(write(tmp_path / "a.tif", xml))
    assert (image.shape, image.axes, image.axes_known) == ((6, 12, 14), "ZYX", False)
    assert said in image.notes[0]
    assert image.notes[0].startswith("a.tif has OME metadata") or "its OME metadata" in image.notes[0]
    np.testing.assert_array_equal(read(image), PAGES)


def test_ome_is_told_from_other_descriptions():
    assert is_ome(ome(pixels()))
    assert is_ome('<?xml version="1.0"?><!-- ' + "x" * 700 + ' --><ome:OME xmlns:ome="x">')
    assert not is_ome("ImageJ=1.53\n")
    assert not is_ome("<OMEGA>")


TAMPERED = ome(
    pixels(block("a.tif", OWN, FirstZ=0, FirstC=0, IFD=0, PlaneCount=3) + '<TiffData IFD="3" FirstZ="1" FirstC="1"/>'),
    own=OWN,
)


@settings(deadline=5000, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(TAMPERED) - 1),
    length=st.integers(0, 12),
    instead=st.sampled_from(["", "0", "9" * 11, "-1", '"', "<", ">", "/>", "&amp;", "&x;", "é", "1e9", " ", "SizeT="])
    | st.text(max_size=4),
)
def test_tampered_xml_gives_an_image_or_an_error_by_name(tmp_path, place, length, instead):
    xml = TAMPERED[:place] + instead + TAMPERED[place + length :]
    try:
        image = open_tiff(write(tmp_path / "a.tif", xml.encode("utf-8", "replace").decode()))
        assert read(image).shape == image.shape
    except DataError as error:
        assert "a.tif" in str(error)
