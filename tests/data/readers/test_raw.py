"""Blocks of numbers in a stream: every window is the slice NumPy gives, and no more is read than it needs."""

import gzip
import io
import tracemalloc
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.data.readers.base import SourceFile
from seglib.data.readers.raw import RawBlock
from seglib.errors import DataError

RNG = np.random.default_rng(0)
HEAD = b"a header of some length"


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size=-1, /):
        piece = super().read(size)
        self.count += len(piece)
        return piece


def block_of(tmp_path, array, stream, *, dtype=None) -> RawBlock:
    @contextmanager
    def opener():
        yield stream

    source = SourceFile(tmp_path / "a.raw", "a.raw")
    return RawBlock(source, opener, len(HEAD), array.shape, array.dtype, dtype or array.dtype.newbyteorder("="))


def contents(array) -> bytes:
    return HEAD + array.tobytes()


@st.composite
def windows(draw):
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=5))
    bounds = [sorted((draw(st.integers(0, side)), draw(st.integers(0, side)))) for side in shape]
    return tuple(shape), tuple(slice(*pair) for pair in bounds)


@pytest.mark.parametrize("piece_and_gap", [(8 << 20, 64 << 10), (64, 16), (1, 0)])
@settings(max_examples=80, deadline=None)
@given(case=windows(), packed=st.booleans(), dtype=st.sampled_from(["|u1", "<u2", ">i4", ">f8"]))
def test_any_window_is_the_slice_of_the_whole(tmp_path_factory, piece_and_gap, case, packed, dtype):
    shape, window = case
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    stream = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(contents(array)))) if packed else Counted(contents(array))
    with pytest.MonkeyPatch.context() as patch:
        # Small limits make small arrays take the ways that large ones take.
        patch.setattr("seglib.data.readers.raw._PIECE_BYTES", piece_and_gap[0])
        patch.setattr("seglib.data.readers.raw._GAP_BYTES", piece_and_gap[1])
        with block_of(tmp_path_factory.getbasetemp(), array, stream).opened() as read:
            got = read(window)
            np.testing.assert_array_equal(got, array[window])
            assert got.dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(read(tuple(slice(0, side) for side in shape)), array)


def test_planes_of_the_slowest_dimension_are_read_and_nothing_else(tmp_path):
    array = RNG.integers(0, 255, (20, 50, 60)).astype(np.uint8)
    stream = Counted(contents(array))
    with block_of(tmp_path, array, stream).opened() as read:
        np.testing.assert_array_equal(read((slice(7, 9), slice(0, 50), slice(0, 60))), array[7:9])
    assert stream.count == 2 * 50 * 60


def test_a_small_part_of_large_planes_does_not_read_the_planes(tmp_path):
    array = np.zeros((10, 1000, 1000), np.uint8)
    array[4:6, 10:20, 3:5] = 7
    stream = Counted(contents(array))
    with block_of(tmp_path, array, stream).opened() as read:
        assert read((slice(4, 6), slice(10, 20), slice(3, 5))).min() == 7
    assert stream.count <= 2 * 10 * 1000


def test_a_window_of_another_dimension_is_read_in_few_pieces(tmp_path, monkeypatch):
    array = RNG.integers(0, 255, (300, 200, 10)).astype(np.uint8)
    stream, seeks = Counted(contents(array)), []
    monkeypatch.setattr(stream, "seek", lambda place: seeks.append(place) or io.BytesIO.seek(stream, place))
    with block_of(tmp_path, array, stream).opened() as read:
        np.testing.assert_array_equal(read((slice(0, 300), slice(0, 200), slice(2, 4))), array[..., 2:4])
    assert len(seeks) == 1


@pytest.mark.parametrize("shape", [(1, 2000, 1000), (2000, 1000)])
def test_a_window_costs_little_more_memory_than_its_own_size(tmp_path, monkeypatch, shape):
    monkeypatch.setattr("seglib.data.readers.raw._PIECE_BYTES", 64 << 10)
    array = np.ones(shape, np.uint8)
    block = block_of(tmp_path, array, Counted(contents(array)))
    tracemalloc.start()
    with block.opened() as read:
        assert read(tuple(slice(0, side) for side in shape)).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 + (512 << 10)


def test_half_precision_and_truth_values_become_plain_numbers(tmp_path):
    half = RNG.normal(size=(4, 5)).astype(">f2")
    with block_of(tmp_path, half, Counted(contents(half)), dtype=np.dtype("f4")).opened() as read:
        got = read((slice(0, 4), slice(0, 5)))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, half)
    # Any byte but 0 is true, also one that NumPy would not have written.
    forged = np.array([[0, 1], [2, 255]], np.uint8)
    block = block_of(tmp_path, forged.view(bool), Counted(contents(forged)), dtype=np.dtype("u1"))
    with block.opened() as read:
        np.testing.assert_array_equal(read((slice(0, 2), slice(0, 2))), [[0, 1], [1, 1]])


def test_a_stream_that_ends_inside_the_data_is_told(tmp_path):
    array = np.zeros((4, 5), np.uint8)
    block = block_of(tmp_path, array, Counted(contents(array)[:-1]))
    with block.opened() as read:
        assert read((slice(0, 3), slice(0, 5))).shape == (3, 5)
        with pytest.raises(DataError, match=r"a\.raw is cut off"):
            read((slice(0, 4), slice(0, 5)))


def test_packed_data_that_do_not_match_their_checksum_are_told(tmp_path):
    array = RNG.integers(0, 255, (40, 50)).astype(np.uint8)
    packed = bytearray(gzip.compress(contents(array)))
    packed[-6] ^= 1
    block = block_of(tmp_path, array, gzip.GzipFile(fileobj=io.BytesIO(bytes(packed))))
    with block.opened() as read, pytest.raises(DataError, match=r"a\.raw is damaged.*CRC"):
        read((slice(0, 40), slice(0, 50)))


def test_errors_of_the_reader_of_a_block_are_not_taken_for_damage(tmp_path):
    array = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="mine") as caught, block_of(tmp_path, array, Counted(b"")).opened():
        raise ValueError("mine")
    assert not isinstance(caught.value, DataError)


def test_a_file_that_has_gone_is_told(tmp_path):
    path = tmp_path / "gone.raw"
    opener = partial(path.open, "rb")
    block = RawBlock(SourceFile(path, "gone.raw"), opener, 0, (2, 2), np.dtype("u1"), np.dtype("u1"))
    with pytest.raises(DataError, match=r"gone\.raw cannot be read"), block.opened():
        pass
