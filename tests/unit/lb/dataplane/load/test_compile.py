"""Which attach types programs get, with versions of bcc that this machine does not have."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lb.dataplane.load import compile as compiling

WANTED = 37


def with_parameter(self: object, func_name: bytes, prog_type: int, attach_type: int = -1) -> None:
    """Take what bcc's `load_func` takes since an attach type can be given."""


def without_parameter(self: object, func_name: bytes, prog_type: int) -> None:
    """Take what it took before."""


@pytest.mark.parametrize(
    ("load_func", "expected"), [(with_parameter, (WANTED, 0)), (without_parameter, (0,))]
)
def test_the_wanted_attach_type_comes_first_where_bcc_can_give_it(
    monkeypatch: pytest.MonkeyPatch, load_func: object, expected: tuple[int, ...]
) -> None:
    bcc = SimpleNamespace(BPF=SimpleNamespace(load_func=load_func))
    monkeypatch.setattr(compiling, "import_bcc", lambda: bcc)
    assert compiling.xdp_attach_types(WANTED) == expected
