"""The limits that hold for every reader."""

import numpy as np
import pytest

from seglib.data.readers.base import check_claim, guess_axes, plain_dtype
from seglib.errors import DataError

BYTE = np.dtype(np.uint8)


def test_a_header_may_not_claim_far_more_than_the_file_holds():
    check_claim("a.tif", (1, 4096, 4096), BYTE, 400)  # an empty label plane packs this well
    with pytest.raises(DataError, match=r"a\.tif is 400 bytes but claims 4,294,967,296"):
        check_claim("a.tif", (1, 1 << 20, 1 << 12), BYTE, 400)
    check_claim("a.tif", (1, 1 << 20, 1 << 12), BYTE, 1 << 30)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 0, 5), "no pixels"), ((2, 1 << 20, 1 << 20), "at most 1 TiB"), ((3, 1 << 21), "side of 2,097,152")],
)
def test_no_file_is_large_enough_for_some_claims(shape, said):
    with pytest.raises(DataError, match=said):
        check_claim("a.tif", shape, BYTE, 1 << 50)


def test_what_is_read_has_plain_numbers():
    assert plain_dtype("a", np.dtype(">u2")) == np.dtype("=u2")
    assert plain_dtype("a", np.dtype(">u2")).isnative
    assert plain_dtype("a", np.dtype(bool)) == np.uint8
    assert plain_dtype("a", np.dtype(np.float16)) == np.float32
    for dtype in ("c8", "S4", "M8[s]", "g"):
        with pytest.raises(DataError, match="whole or real numbers"):
            plain_dtype("a", np.dtype(dtype))


def test_axes_are_guessed_with_space_last_and_few_channels_apart():
    shapes = [(20, 30), (5, 20, 30), (20, 30, 3), (9, 20, 30, 3), (2, 9, 20, 30), (2, 2, 9, 20, 30)]
    assert [guess_axes(shape) for shape in shapes] == ["YX", "ZYX", "YXC", "ZYXC", "CZYX", "TCZYX"]
    with pytest.raises(DataError, match="6 dimensions"):
        guess_axes((1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("stored", "read"), [("<f2", "float32"), (">f2", "float32"), (">u4", "uint32"), ("?", "uint8")]
)
def test_dtypes_are_read_in_native_order_and_wide_enough(stored, read):
    found = plain_dtype("a.npy", np.dtype(stored))
    assert (str(found), found.isnative) == (read, True)
