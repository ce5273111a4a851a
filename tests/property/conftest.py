"""The programs are compiled for this machine once for all property tests."""

from __future__ import annotations

import pytest

from tests.fuzz.host import Host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("host"))
