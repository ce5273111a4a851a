"""What bcc makes of the structs of bpf/abi.h, against lb/abi.py (no root needed for the rest)."""

from __future__ import annotations

import ctypes
from typing import Any

import bcc
import numpy as np
import pytest

from lb import abi
from lb.dataplane.load.kernel_headers import stand_in_headers
from lb.paths import bpf_dir


def widest_array(dtype: np.dtype[Any]) -> int:
    """Return the elements of a struct's longest array: bcc generates code for each of them."""
    assert dtype.fields is not None
    return max(
        max(int(np.prod(kind.shape)), widest_array(kind.base) if kind.base.fields else 1)
        for kind, *_ in dtype.fields.values()
    )


SMALL = [name for name, dtype in abi.STRUCTS.items() if widest_array(dtype) <= 16]


@pytest.fixture(scope="module")
def tables() -> Any:
    """A map for each struct, made by bcc alone."""
    lines = ["#include <linux/bpf.h>", '#include "abi.h"']
    lines += [f'BPF_TABLE("array", u32, struct {name}, t_{name}, 1);' for name in SMALL]
    text = "\n".join(lines).encode()
    with stand_in_headers():
        module = bcc.BPF(text=text, cflags=["-DLB_IN_KERNEL", f"-I{bpf_dir()}"])
    yield module
    module.cleanup()


@pytest.mark.parametrize("name", SMALL)
def test_leaf(tables: Any, name: str) -> None:
    table = tables[f"t_{name}".encode()]
    leaf, dtype = table.Leaf, abi.STRUCTS[name]
    assert ctypes.sizeof(table.Key) == 4
    assert ctypes.sizeof(leaf) == dtype.itemsize
    got = {
        field: (getattr(leaf, field).offset, getattr(leaf, field).size)
        for field, _ in leaf._fields_
    }
    assert dtype.fields is not None
    wanted = {field: (offset, kind.itemsize) for field, (kind, offset, *_) in dtype.fields.items()}
    assert got == wanted


def test_the_maps_themselves(rig: Any) -> None:
    from lb.dataplane.load import bpf_syscall

    def shape(name: str) -> tuple[int, int]:
        info = bpf_syscall.map_info(rig.dataplane.map_fd(name))
        return info.value_size, info.max_entries

    assert shape("lb_state") == (abi.STATE.itemsize, 1)
    assert shape("lb_counters") == (np.dtype("u8").itemsize, len(abi.COUNTERS))
    assert shape("lb_service_stats") == (abi.SERVICE_STATS.itemsize, abi.MAX_SERVICES)
    assert shape("lb_tables") == (4, abi.MAX_INNER)
