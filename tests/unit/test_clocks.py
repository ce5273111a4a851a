"""Nothing but what people read depends on the wall clock: it can be stepped at any time.

Ages are measured by monotonic clocks, or in fleet time (docs/adr/0012). Each place that reads the
wall clock, or compares with a file's time, is listed here with what a step does there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("controlplane", "lb", "netns")

OF_TIME = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "clock_gettime"}
OF_DATES = {"now", "utcnow", "today", "fromtimestamp"}
ELSEWHERE = {
    *{"set_to_current_time", "TimeStamper"},  # a metric, a log line
    *{"st_mtime", "st_ctime", "st_atime", "st_mtime_ns"},  # of files
}

ORIGIN = "the origin of a new store's fleet time: any value will do"
TEMPORARIES = "when to remove what a dead writer left; a living writer's lock protects it"
PEOPLE = "for people"
ALLOWED: Mapping[tuple[str, str], str] = {
    ("controlplane/publish/state.py", "begin"): ORIGIN,
    ("controlplane/store/file/store.py", "_prepare"): TEMPORARIES,
    ("controlplane/store/state_dir.py", "_prepare"): TEMPORARIES,
    ("controlplane/store/file/twins.py", "_version"): "whether it is another file, with its inode",
    ("controlplane/store/file/atomic.py", "sweep_temporaries"): TEMPORARIES,
    ("controlplane/store/state_dir.py", "document_age_seconds"): "for people: lbctl table",
    ("controlplane/controller/loop.py", "round"): "for people: when decisions were made",
    ("controlplane/controller/wall_clock.py", "__init__"): "for people: its steps are reported",
    ("controlplane/controller/process.py", "between"): "dates of certificates are wall clock times",
    ("lb/cli/servers.py", "command"): "the same",
    ("controlplane/controller/metrics.py", "show_start"): PEOPLE,
    ("controlplane/controller/metrics.py", "show_reload"): PEOPLE,
    ("controlplane/logs.py", "_shared"): PEOPLE,
    ("controlplane/operator/knowledge.py", "see"): "for people: how old it is",
    ("controlplane/operator/requests.py", "drain_request"): PEOPLE,
    ("controlplane/operator/requests.py", "request_text"): PEOPLE,
    ("lb/agent/down.py", "_report_stop"): PEOPLE,
    ("lb/agent/down.py", "_send_leaving"): PEOPLE,
    ("lb/agent/documents/follower.py", "__init__"): "for people, beside a monotonic time",
    ("lb/agent/documents/in_use.py", "__init__"): "the same",
    ("lb/agent/report/store_reports.py", "__init__"): "the same",
    ("lb/agent/up.py", "__init__"): PEOPLE,
    ("lb/agent/up.py", "_note_start"): PEOPLE,
    ("lb/agent/up.py", "_reload"): PEOPLE,
    ("lb/agent/up.py", "compose"): PEOPLE,
    ("lb/agent/event_loop.py", "_tick"): PEOPLE,
    ("lb/agent/ready/announcer.py", "_write_ready_file"): PEOPLE,
    ("lb/agent/watch/start.py", "_report"): PEOPLE,
    ("lb/cli/_rolling.py", "roll"): "for people: when events of the journal happened",
    ("lb/cli/history.py", "line"): PEOPLE,
    ("lb/cli/status.py", "command"): PEOPLE,
    ("lb/cli/why.py", "command"): PEOPLE,
    ("lb/trace/event.py", "as_data"): PEOPLE,
    ("lb/trace/event.py", "line"): PEOPLE,
    ("lb/trace/run.py", "__init__"): PEOPLE,
    ("lb/demo/site/site.py", "catch_up"): "one machine, for a moment: a step fails the demo",
    ("lb/demo/steps/restarts.py", "event"): "the same",
}


def readings(path: str, source: str) -> Iterator[tuple[str, str, int]]:
    """Yield path, innermost function and line of each reading of the wall clock."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, str, int]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if _reads(node):
            yield path, function, getattr(node, "lineno", 0)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(ast.parse(source), "")


def _reads(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "time" and any(name.name in OF_TIME for name in node.names)
    if not isinstance(node, ast.Attribute):
        return False
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    if isinstance(node.value, ast.Attribute):
        owner = node.value.attr
    return (
        (owner == "time" and node.attr in OF_TIME)
        or (owner in {"datetime", "date"} and node.attr in OF_DATES)
        or node.attr in ELSEWHERE
    )


def all_readings() -> list[tuple[str, str, int]]:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    found = []
    for file in files:
        path = str(file.relative_to(ROOT))
        found += list(readings(path, file.read_text(encoding="utf-8")))
    return found


def test_the_wall_clock_is_read_only_where_a_step_does_no_harm() -> None:
    strange = [f"{p}:{line} in {f}" for p, f, line in all_readings() if (p, f) not in ALLOWED]
    assert not strange, (
        "measure ages by time.monotonic() or in fleet time, or explain it in ALLOWED"
    )


def test_every_exception_is_needed() -> None:
    assert ALLOWED.keys() - {(path, function) for path, function, _ in all_readings()} == set()


def test_a_controllers_decisions_and_tables_never_depend_on_it() -> None:
    parts = ("controlplane/decide", "controlplane/builder", "controlplane/observe")
    assert not [path for path, _ in ALLOWED if path.startswith(parts)]


@pytest.mark.parametrize(
    "text",
    [
        "time.time()",
        "clock = time.time",
        "def f(clock=time.time): pass",
        "time.strftime('%H')",
        "datetime.now()",
        "datetime.datetime.now(tz=UTC)",
        "date.today()",
        "from time import time",
        "gauge.set_to_current_time()",
        "path.stat().st_mtime",
        "structlog.processors.TimeStamper()",
    ],
)
def test_every_reading_is_seen(text: str) -> None:
    assert list(readings("a.py", text))


@pytest.mark.parametrize(
    "text", ["time.monotonic()", "time.perf_counter()", "time.sleep(1)", "self.time.at(now)"]
)
def test_what_is_not_a_reading_passes(text: str) -> None:
    assert not list(readings("a.py", text))
