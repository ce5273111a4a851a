"""`lbctl bench presence`: real connections, counted whole, and what they cost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.report.presence.counter import QUICK
from lb.bench import presence
from lb.bench.presence import CPU_BAR, MEMORY_BAR, Row, as_json


@pytest.mark.root
def test_every_connection_is_counted_and_costs_what_is_shown() -> None:
    """As many as one process may open, and some more."""
    words = ["unshare", "--net", sys.executable, "-m", presence.__name__, "300"]
    limited = ["prlimit", "--nofile=400:400", *words]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = Row(**json.loads(done.stdout))
    assert row.connections == 300
    assert row.pause_seconds == pytest.approx(QUICK.pause(row.dump_cpu_ms / 1000))
    assert 0 < row.core_percent <= CPU_BAR
    assert row.memory_mib < MEMORY_BAR


def test_what_it_may_not_do_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SIZES", (1,))
    refuse = "echo 'unshare failed:' >&2; echo 'not permitted' >&2; exit 1"
    monkeypatch.setattr(presence, "COMMAND", ("sh", "-c", refuse, "--"))
    with pytest.raises(BrigadeError, match=r"cannot measure.*not permitted") as caught:
        presence.measure()
    assert "\n" not in str(caught.value)


def test_the_result_has_its_bars() -> None:
    rows = as_json([Row(100, 5.0, 0.4, 1.23456, 1.5)])["rows"]
    assert rows == [
        {"name": "dump_cpu_100", "value": 5.0, "unit": "ms", "bar": None},
        {"name": "pause_100", "value": 0.4, "unit": "s", "bar": None},
        {"name": "core_100", "value": 1.235, "unit": "%", "bar": CPU_BAR},
        {"name": "memory_100", "value": 1.5, "unit": "MiB", "bar": MEMORY_BAR},
    ]
