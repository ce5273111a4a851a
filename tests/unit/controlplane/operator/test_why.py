"""`lbctl why`: one sentence first, then every missing bucket by reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lb.cli.main as cli
from controlplane.domain.decisions import (
    Decisions,
    Missing,
    PoolDecisions,
    Reason,
    ServerBuckets,
)
from controlplane.store.file.store import FileStore

SETTINGS = """
store = "file:store"
[[server]]
name = "front1"
dip = "10.1.0.1"
[[server]]
name = "front2"
dip = "10.1.0.2"
[[pool]]
name = "web"
"""
FULL = Missing(Reason.CHAIN_FULL, 16000, "hops within their drain time must go first")
SLOW = Missing(Reason.SLOW_START, 384, "about 10% of its share")


class Site:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "control.toml"
        self.file.write_text(SETTINGS)
        (folder / "store").mkdir(mode=0o700)
        self.store = FileStore(folder / "store")

    def decided(self, *servers: ServerBuckets, held: tuple[str, ...] = ()) -> None:
        pools = {
            f"web{n or ''}": PoolDecisions(5, servers={"front1": one})
            for n, one in enumerate(servers)
        }
        self.store.put_decisions(Decisions(1.0, {"front1": held} if held else {}, pools=pools))

    def why(self, *words: str) -> int:
        return cli.run(["why", *words, "--config", str(self.file)])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_sentence_and_the_reasons(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.decided(ServerBuckets(0, 16384, (SLOW, FULL)), held=("pool web would have 0 of 2",))
    with site.store.lead("c1"):
        assert site.why("front1") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == (
            "front1 has 0 of 16,384 buckets that it should have: 16,000 chain full, 384 slow start"
        )
        assert any("its drain is held back: pool web would have 0 of 2" in line for line in lines)
        assert any("16,000" in line and "drain time must go first" in line for line in lines)
        assert any("decided" in line for line in lines), "older than a leader writes them"
        assert site.why("front1", "--json") == 0
        found = json.loads(capsys.readouterr().out)
    assert found["leader"].startswith("c1")
    assert found["pools"][0]["missing"][1] == {
        "reason": "chain full",
        "buckets": 16000,
        "detail": "hops within their drain time must go first",
    }


def test_all_pools_count(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.decided(ServerBuckets(84, 100, (Missing(Reason.CAP, 16),)), ServerBuckets(70, 64))
    assert site.why("front1") == 0
    out = capsys.readouterr().out
    assert out.startswith("front1 has 154 of 170 buckets that it should have: 16 cap\n")
    assert "NO CONTROLLER LEADS" in out


def test_what_the_last_server_of_a_pool_keeps_is_no_equal_part(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps = "no other server of the pool can take its buckets, so it keeps them until one can"
    site.decided(ServerBuckets(256, 256, keeps=keeps), ServerBuckets(0, 64, (SLOW,)))
    assert site.why("front1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("front1 has 256 of ")
    assert f"pool web: {keeps}" in lines
    site.decided(ServerBuckets(256, 256, keeps=keeps))
    assert site.why("front1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "front1 has 256 buckets, and keeps them"
    assert f"pool web: {keeps}" in lines


def test_nothing_missing_and_no_pool(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.decided(ServerBuckets(70, 64))
    assert site.why("front1") == 0
    assert "front1 has 70 buckets, 6 more than an equal part" in capsys.readouterr().out
    assert site.why("front2") == 0
    assert "front2 has no buckets: it serves no pool" in capsys.readouterr().out


def test_unknown_names_and_no_decisions(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.why("frnt1") == 2
    assert "did you mean 'front1'?" in capsys.readouterr().err
    assert site.why("front1") == 1
    assert "no controller has published its decisions" in capsys.readouterr().err
