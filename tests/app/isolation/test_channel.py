"""What passes between a gateway and a runner, and what a runner in a stranger's hands may try."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as some_arrays

from app.engines.engine import NUMPY_TYPES
from app.isolation.channel import Arena, Closed, Garbled, limit_time, receive, room_for, send

NUMERIC = [dtype for dtype in NUMPY_TYPES.values() if dtype != np.object_]
ARRAYS = some.sampled_from(NUMERIC).flatmap(
    lambda dtype: some_arrays.arrays(dtype, some_arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create()
    made.follow()
    yield made
    made.close()


@given(some.lists(ARRAYS, max_size=5))
def test_tensors_arrive_as_they_left(arrays: list[Any]) -> None:
    ours = Arena.create()
    ours.make_room(room_for(arrays))
    its = Arena(os.dup(ours.descriptor))
    its.follow()
    placed = ours.put(arrays)
    for read in (its.views(placed), its.copies(placed)):
        for array, arrived in zip(arrays, read, strict=True):
            assert arrived.dtype == array.dtype
            assert arrived.shape == array.shape
            assert arrived.tobytes() == array.tobytes()
    ours.close()
    its.close()


def test_strings_arrive_whatever_bytes_they_are_of(arena: Arena) -> None:
    strings = np.array([[b"", b"\x00\xff"], [b"x" * 100_000, "é".encode()]], np.object_)
    arena.make_room(room_for([strings]))
    (arrived,) = arena.copies(arena.put([strings]))
    assert arrived.tolist() == strings.tolist()


def test_arrays_in_no_order_of_memory_are_put_in_order(arena: Arena) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    (arrived,) = arena.copies(arena.put([array]))
    np.testing.assert_array_equal(arrived, array)


def test_what_was_copied_does_not_change_any_more(arena: Arena) -> None:
    placed = arena.put([np.ones(4)])
    (copied,) = arena.copies(placed)
    (view,) = arena.views(placed)
    arena.put([np.zeros(4)])
    assert copied.tolist() == [1.0] * 4
    assert view.tolist() == [0.0] * 4


def test_nobody_can_shrink_it_under_its_reader(arena: Arena) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(arena.descriptor, 1)


@pytest.mark.parametrize(
    "placed",
    [
        None,
        [None],
        [["FP32", [1], 0]],
        [["FP32", [1], 0, 8]],
        [["FP32", [-1], 0, 4]],
        [["FP32", [1.0], 0, 4]],
        [["FP32", [True], 0, 4]],
        [["FP32", 1, 0, 4]],
        [["FP32", [1], -64, 4]],
        [["FP32", [1], 1, 4]],
        [["FP32", [1], 1 << 40, 4]],
        [["FP32", [1 << 14, 1 << 14], 0, 1 << 30]],
        [["FP32", [1 << 62, 1 << 62], 0, 0]],
        [["FP32", [1] * 65, 0, 4]],
        [["object", [1], 0, 8]],
        [[["FP32"], [1], 0, 4]],
        [["BYTES", [1 << 40], 0, 64]],
        [["BYTES", [1], 0, 0]],
    ],
)
def test_a_tensor_that_cannot_be_is_refused(arena: Arena, placed: Any) -> None:
    with pytest.raises((Garbled, TypeError)):
        arena.copies(placed)


@pytest.mark.parametrize("content", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00", b"\x00\x00\x00\x00\x00\x00\x00\x00"])
def test_strings_that_reach_beyond_their_tensor_are_refused(arena: Arena, content: bytes) -> None:
    ((_, _, start, length),) = arena.put([np.frombuffer(content, np.uint8)])
    with pytest.raises(Garbled):
        arena.copies([["BYTES", [1], start, length]])


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, its = socket.socketpair()
    with ours, its:
        yield ours, its


def test_messages_arrive_in_whatever_pieces_they_come(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, its = ends
    long = {"names": ["x" * 100] * 1000}
    for message in ({}, {"a": [1, None]}, long):
        send(its, message)
        assert receive(ours) == message
    its.sendall(b"\x02\x00")
    its.sendall(b"\x00\x00")
    its.sendall(b"{}")
    assert receive(ours) == {}


@pytest.mark.parametrize("said", [b"\xff\xff\xff\x7f", b"\x02\x00\x00\x00{]", b"\x02\x00\x00\x00{}{}"])
def test_what_is_no_message_is_refused(ends: tuple[socket.socket, socket.socket], said: bytes) -> None:
    ours, its = ends
    its.sendall(said)
    with pytest.raises(Garbled):
        receive(ours)


def test_silence_and_an_end_are_told_apart(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, its = ends
    limit_time(ours, 0.05)
    with pytest.raises(TimeoutError):
        receive(ours)
    its.sendall(b"\x02")
    its.close()
    with pytest.raises(Closed):
        receive(ours)
