"""`lbctl bench control`: the rows and their JSON."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.domain.errors import BrigadeError
from lb.bench import control
from lb.bench.control import measure, situations
from lb.cli.main import run

NAMES = ["cold", "one_died", "all_shares_changed", "nothing_changed"]


def test_rows_are_named_and_timed_by_the_clock_given() -> None:
    seconds = itertools.count()
    rows = measure((256, 5), rounds=3, clock=lambda: float(next(seconds)))
    assert [row.name for row in rows] == NAMES
    assert {(row.buckets, row.servers, row.median_ms) for row in rows} == {(256, 5, 1000.0)}
    assert all(0 < row.peak_mib < 5 for row in rows)


def test_a_wrong_answer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    cold = next(situations(256, 5))
    monkeypatch.setattr(control, "situations", lambda *size: iter([replace(cold, changes=False)]))
    with pytest.raises(BrigadeError, match="cold"):
        measure((256, 5), rounds=1)


def test_the_command_writes_what_machines_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "control", "--quick", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["rows"]] == NAMES
    for row in found["rows"]:
        assert set(row) == {"name", "buckets", "servers", "median_ms", "peak_mib"}
        assert (row["buckets"], row["servers"]) == (65536, 1000)
    target = tmp_path / "rows.json"
    assert run(["bench", "control", "--quick", "--json", str(target)]) == 0
    assert [row["name"] for row in json.loads(target.read_text())["rows"]] == NAMES
    assert "median ms" in capsys.readouterr().out
