"""The hooks of deploy/examples with the kernel's routing tables, as an agent runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.brigade import brigade
from netns.host import Host
from netns.network import Network

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"


@pytest.fixture(scope="module")
def server() -> Iterator[Host]:
    with Network(brigade(servers=1, clients=1)) as made:
        yield made["server1"]


def hook(server: Host, name: str, *vips: str) -> list[str]:
    """Run a hook; return the prefixes that are in its table afterwards."""
    words = ["env", f"BUCKET_BRIGADE_VIPS={' '.join(vips)}", str(EXAMPLES / name)]
    server.run(words)
    shown = "".join(
        server.run(["sh", "-c", f"ip {family} route show table 6090 2>/dev/null || true"]).stdout
        for family in ("-4", "-6")
    )
    return [line.split()[1] for line in shown.splitlines()]


def test_vips_may_change_while_they_are_announced(server: Host) -> None:
    first, second = "192.0.2.10", "198.51.100.0/24"
    third, fourth = "2001:db8::10", "2001:db8:1::/64"
    assert hook(server, "withdraw") == []
    assert hook(server, "announce", first, third) == [first, third]
    assert hook(server, "announce", first, third) == [first, third]
    assert hook(server, "announce", first, second, third, fourth) == [first, second, third, fourth]
    assert hook(server, "announce", second, fourth) == [second, fourth]
    assert hook(server, "withdraw") == []
    assert hook(server, "withdraw") == []
