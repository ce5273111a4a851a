"""What the format of services and tables cannot express, and how much room a table takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model import Pool
from tests.model.encap import room
from tests.packets.world import AT_REST, KEY, SERVICES


@pytest.mark.parametrize(("depth", "expected"), [(1, 36), (2, 40), (3, 44), (4, 48)])
def test_room(depth: int, expected: int) -> None:
    assert room(depth) == expected


@pytest.mark.parametrize("depth", [0, 5])
def test_a_table_that_no_chain_fits(depth: int) -> None:
    with pytest.raises(ValueError, match="1 to 4 deep"):
        Pool(KEY, 256, {}, depth=depth)


def test_a_chain_that_is_longer_than_its_table() -> None:
    with pytest.raises(ValueError, match="at most 2 DIPs"):
        Pool(KEY, 256, {7: (1, 2, 3)}, depth=2)


def test_two_services_of_the_same_name() -> None:
    with pytest.raises(ValueError, match="same address, protocol and port"):
        replace(AT_REST, services=(SERVICES[0], replace(SERVICES[0], stateless=True)))
