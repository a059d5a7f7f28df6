"""The demo data: seeded, labelled, and neither trivial nor hopeless."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from seglib.data.synthetic import demo_volumes

VOLUMES = demo_volumes()


def test_images_and_ids_have_the_promised_shapes_and_types():
    assert len(VOLUMES) == 4
    for image, labels in VOLUMES:
        assert (image.shape, image.dtype) == ((32, 128, 128), np.uint8)
        assert (labels.shape, labels.dtype) == ((32, 128, 128), np.uint16)
        assert np.unique(labels).tolist() == list(range(labels.max() + 1))


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others():
    again, other = demo_volumes(count=2), demo_volumes(count=1, seed=1)
    for (image, labels), (image_2, labels_2) in zip(VOLUMES, again, strict=False):
        np.testing.assert_array_equal(image, image_2)
        np.testing.assert_array_equal(labels, labels_2)
    assert (other[0][0] != VOLUMES[0][0]).any()
    assert (VOLUMES[0][0] != VOLUMES[1][0]).any()


def test_a_threshold_finds_much_of_the_cells_but_not_all():
    for image, labels in VOLUMES:
        found, cells = image > threshold_otsu(image), labels > 0
        dice = 2 * (found & cells).sum() / (found.sum() + cells.sum())
        assert 0.6 < dice < 0.85


def test_cells_touch_so_that_a_mask_does_not_tell_them_apart():
    for _, labels in VOLUMES:
        assert ndimage.label(labels > 0)[1] < 0.7 * labels.max()


def test_grey_values_are_not_clipped_away():
    for image, _ in VOLUMES:
        assert (image == 255).mean() < 0.001
        assert (image == 0).mean() < 0.2


def test_cells_crowded_from_edge_to_edge_keep_their_ids():
    for shape in ((1, 64, 64), (4, 8, 8), (1, 1, 1)):
        image, labels = demo_volumes(count=1, shape=shape)[0]
        assert image.shape == labels.shape == shape
