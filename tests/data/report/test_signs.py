"""Signs of trouble are seen where there is trouble, and nowhere else."""

import numpy as np
import pytest
from scipy import ndimage

from seglib.data.report.signs import find_signs


def cells(seed=0, shape=(12, 120, 140)):
    """Bright blobs, and which blob each voxel belongs to."""
    rng = np.random.default_rng(seed)
    seeds = rng.random(shape) < 0.0012
    distance = ndimage.distance_transform_edt(~seeds, sampling=(2, 1, 1))
    labels = ndimage.label(distance < 7)[0].astype(np.uint16)
    image = ndimage.gaussian_filter((labels > 0) * 120.0, 1.0) + rng.normal(40, 8, shape)
    return image.clip(0, 255).astype(np.uint8)[None], labels


def test_a_clean_volume_has_none():
    image, labels = cells()
    signs = find_signs(image, labels)
    assert (signs.bars, signs.shift, signs.dtype) == ((), None, "")
    assert len(signs.thumbnail) == 3 * 16 * 16


@pytest.mark.parametrize("shift", [(0, 5, -3), (0, 0, 4), (0, -8, 0), (0, 3, 3)])
def test_labels_beside_the_image_are_seen_with_where_they_belong(shift):
    image, labels = cells()
    moved = np.roll(labels, shift, axis=(0, 1, 2))
    assert find_signs(image, moved).shift == tuple(-step for step in shift)


def test_labels_of_another_image_are_no_shift():
    for seed in range(4):
        image, _ = cells(seed)
        _, labels = cells(seed + 100)
        assert find_signs(image, labels).shift is None
        noise = np.random.default_rng(seed).integers(0, 255, image.shape).astype(np.uint8)
        assert find_signs(noise, labels).shift is None


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
@pytest.mark.parametrize("constant", [True, False])
def test_a_bar_at_an_edge_is_seen_as_wide_as_it_is(edge, constant):
    image, _ = cells()
    rng = np.random.default_rng(5)
    turned = {"top": image[0], "bottom": image[0][:, ::-1]}.get(edge)
    if turned is None:
        turned = image[0].transpose(0, 2, 1) if edge == "left" else image[0].transpose(0, 2, 1)[:, ::-1]
    turned[:, :17] = 0
    if not constant:
        turned[:, 4:13, 10:40] = rng.choice([0, 255], (9, 30))
    (bar,) = find_signs(image, None).bars
    assert (bar.edge, bar.width, bar.constant) == (edge, 17, constant)


def test_a_bar_that_only_some_planes_have_is_none_and_dark_images_are_none():
    image, _ = cells()
    image[:, :6, -20:] = 0
    assert find_signs(image, None).bars == ()
    black = np.zeros((1, 4, 64, 64), np.uint8)
    black[0, :, 20:30, 20:30] = 200
    assert find_signs(black, None).bars == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda grey: (grey > 90).astype(np.uint8) * 255, "as a mask has"),
        (lambda grey: (grey > 90).astype(np.float32), "as a mask has"),
        (lambda grey: ndimage.gaussian_filter(grey * 60.0, 2).astype(np.uint16).byteswap(), "bytes were swapped"),
        (lambda grey: (grey.astype(np.int32) - 60).astype(np.uint16), "too large for their type"),
        (lambda grey: (grey.astype(np.int32) * 200).astype(np.int16), "too large for their type"),
        (lambda grey: (grey.astype(np.int32) + 120).astype(np.uint8), "too large for their type"),
        (lambda grey: grey.astype(np.uint16), "kept in 16 bits, which does no harm"),
        (lambda grey: grey.astype(np.float64), "whole numbers only"),
        (lambda grey: grey.astype(np.uint16) * 256, "only multiples of 256"),
        (lambda grey: grey.astype(np.uint16) * 11, ""),
        (lambda grey: grey.astype(np.float32) / 255, ""),
        (lambda grey: grey, ""),
    ],
)
def test_values_that_do_not_look_like_their_type(make, words):
    image, _ = cells()
    found = find_signs(make(image[0])[None], None).dtype
    assert words in found if words else found == ""


def test_thumbnails_tell_twins_from_others_whatever_noise_and_light():
    image, _ = cells()
    other, _ = cells(1)
    rng = np.random.default_rng(0)
    shade = np.linspace(0.7, 1.3, image.shape[-1])
    twin = (image * 0.6 * shade + rng.normal(20, 5, image.shape)).clip(0, 255).astype(np.uint8)

    def likeness(a, b):
        return np.corrcoef(find_signs(a, None).thumbnail, find_signs(b, None).thumbnail)[0, 1]

    assert likeness(image, twin) > 0.97
    assert likeness(image, other) < 0.5
    assert find_signs(np.full((1, 4, 40, 40), 7, np.uint8), None).thumbnail == ()
    assert find_signs(np.zeros((1, 1, 8, 8), np.uint8), None).thumbnail == ()


def test_single_planes_and_broken_values_are_looked_at_too():
    image, labels = cells(shape=(1, 90, 100))
    real = image.astype(np.float32)
    real[0, 0, :4, :4] = np.nan
    signs = find_signs(real, labels)
    assert signs.shift is None
    assert len(signs.thumbnail) == 256
