"""`lbctl counters` for people: what the table shows, and that a pipe gets each reading."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Self

import pytest

import lb.cli.main as cli
from lb.dataplane.maps.resets import ResetCounts
from lb.dataplane.objects import ServiceEntry


class Plane:
    """The pinned programs of an agent; each reading counts 50 packets more."""

    packets = 0

    def __init__(self, _: Path) -> None:
        Plane.packets += 50

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def counters(self) -> dict[str, int]:
        return {"pass_local": self.packets, "drop_too_big": 0}

    def reset_counts(self) -> ResetCounts:
        return ResetCounts(3, 0)

    def service_counters(self) -> dict[ServiceEntry, tuple[int, int]]:
        entry = ServiceEntry(vip=IPv4Network("192.0.2.10"), protocol=6, port=80, pool="web")
        other = replace(entry, vip=IPv6Network("fd00::10"))
        return {entry: (self.packets, 1_234_567), other: (0, 0)}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("lb.dataplane.pinned.PinnedDataplane", Plane)
    monkeypatch.setattr(Plane, "packets", 0)
    path = tmp_path / "agent.toml"
    path.write_text('name = "s1"\ninterface = "eth0"\ndip = "10.0.0.1"\n')
    return path


def test_bytes_by_service(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["counters", "--config", str(config)]) == 0
    heading, verdict, resets, service, other = capsys.readouterr().out.splitlines()
    assert heading.split() == ["verdict", "program", "packets", "bytes"]
    assert verdict.split()[-1] == "50"
    assert resets.split() == ["reset_first", "egress", "3"]
    assert service.split()[-2:] == ["50", "1,234,567"]
    assert "[fd00::10]:80" in other, "not taken for a style"


def test_a_pipe_gets_every_reading_when_it_is_made(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def sleep(_: float) -> None:
        seen.append(capsys.readouterr().out)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert cli.run(["counters", "--watch", "--config", str(config)]) == 130
    assert ["per second" in text for text in seen] == [False, True, True]
    rates = [line.split()[-1] for text in seen[1:] for line in text.splitlines() if "pass_" in line]
    assert rates == ["50", "50"]
