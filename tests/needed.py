"""What tests need of a machine: without it they are skipped, or fail where nothing may be."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def root_is_required() -> bool:
    """Whether a skip for want of something on this machine is a failure, as in CI."""
    return os.environ.get("LB_REQUIRE_ROOT", "") not in {"", "0"}


def missing(what: str) -> NoReturn:
    """Skip the test that needs it; fail it where nothing may be skipped."""
    if root_is_required():
        pytest.fail(f"{what} (LB_REQUIRE_ROOT is set)", pytrace=False)
    pytest.skip(what)
