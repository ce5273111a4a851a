"""Which pinned arrays a new agent can use, asked of the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from lb.abi import Slot
from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.root_array import (
    create_root,
    find_root,
    fitting_type,
    program_in,
    put_program,
    replaced,
)
from tests.dataplane.tiny_programs import goes_on, returns
from tests.machine import kernel_compares_attach_types

NONE, XDP = 0, bpf_syscall.ATTACH_TYPE_XDP
PASS, DROP = 2, 1


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def held(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


@pytest.fixture
def array(stack: ExitStack) -> int:
    return held(stack, create_root())


@pytest.mark.parametrize("first", [XDP, NONE])
def test_an_array_takes_what_the_first_program_was(
    stack: ExitStack, array: int, first: int
) -> None:
    held(stack, goes_on(array, Slot.FORWARDER, PASS, first))
    expected = first if kernel_compares_attach_types() else XDP
    assert fitting_type(array, (XDP, NONE)) == expected
    if kernel_compares_attach_types():
        assert fitting_type(array, (XDP + NONE - first,)) is None
    put_program(array, Slot.BEFORE, held(stack, returns(PASS, expected)))


def test_a_pinned_array_is_found_behind_those_that_cannot_be_used(
    stack: ExitStack, array: int, bpffs: Path
) -> None:
    pins = [bpffs / name for name in ("missing", "values", "program", "larger", "root")]
    kinds = bpf_syscall.MAP_TYPE_ARRAY, bpf_syscall.MAP_TYPE_PROG_ARRAY
    values = held(stack, bpf_syscall.map_create(kinds[0], 4, 4, Slot.COUNT, name="values"))
    larger = held(stack, bpf_syscall.map_create(kinds[1], 4, 4, 16, name="larger"))
    for pin, fd in zip(pins[1:], (values, held(stack, returns(PASS)), larger, array), strict=True):
        bpf_syscall.obj_pin(fd, pin)
    assert find_root(pins[:-1], (XDP,)) is None
    found = find_root(pins, (XDP,))
    assert found is not None
    held(stack, found.fd)
    assert bpf_syscall.map_info(found.fd).map_id == bpf_syscall.map_info(array).map_id
    assert found.xdp_attach_type == XDP


def test_what_was_in_a_slot_comes_back_if_the_rest_fails(stack: ExitStack, array: int) -> None:
    old, new = (held(stack, returns(verdict)) for verdict in (PASS, DROP))
    ids = [bpf_syscall.prog_info(fd).prog_id for fd in (old, new)]
    for before in (None, ids[0]):
        if before is not None:
            put_program(array, Slot.FORWARDER, old)
        with suppress(KeyError), replaced(array, Slot.FORWARDER, new):
            assert program_in(array, Slot.FORWARDER) == ids[1]
            raise KeyError
        assert program_in(array, Slot.FORWARDER) == before
    with replaced(array, Slot.FORWARDER, new):
        pass
    assert program_in(array, Slot.FORWARDER) == ids[1]
