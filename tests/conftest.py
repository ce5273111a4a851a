"""What every test shares: which tests this machine can run, and the list of those it cannot.

Tests in `tests/dataplane` and `tests/netns`, and tests marked `root`, `dataplane` or `netns`, run
where a probe finds root, bcc, BPF maps and network namespaces. Elsewhere they are skipped with one
line of advice, or fail if LB_REQUIRE_ROOT=1. A module of these folders may import bcc at its top.
"""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests import machine
from tests.needed import missing, root_is_required

MARKERS_OF_FOLDER = {
    "tests/dataplane": ("root", "dataplane"),
    "tests/netns": ("root", "netns", "dataplane"),
}

# Examples take as long as they take: machines that run tests are busy. A failure prints what
# reproduces it.
settings.register_profile("brigade", deadline=None, print_blob=True)
settings.load_profile("brigade")


def pytest_sessionstart() -> None:
    """Hear Ctrl-C, and let the programs that tests start hear it, also when run with `&`.

    A shell has what it runs in the background ignore SIGINT, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def folder_of(node: pytest.Item | pytest.Collector) -> str:
    """Name the folder of tests that an item lies in, e.g. `tests/netns`."""
    return "/".join(node.nodeid.split("/")[:2])


def missing_for(markers: set[str]) -> str | None:
    """Return why a test with these markers cannot run here, None if it can."""
    if "dataplane" in markers:
        return machine.why_no_bpf() or ("netns" in markers and machine.why_no_netns()) or None
    if "netns" in markers:
        return machine.why_no_netns()
    if "root" in markers:
        return machine.why_no_root()
    return None


class MachineModule(pytest.Module):
    """A module of a folder whose tests need more than Python."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Collect as ever; if that fails on a machine that could not run it anyway, skip it."""
        try:
            return list(super().collect())
        except self.CollectError:
            reason = missing_for(set(MARKERS_OF_FOLDER[folder_of(self)]))
            if reason is None or root_is_required():
                raise
            pytest.skip(reason, allow_module_level=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Collect the folders that need root with the module above."""
    module: pytest.Module = MachineModule.from_parent(parent, path=module_path)
    return module if folder_of(module) in MARKERS_OF_FOLDER else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder; first, so that `-m` sees the marks."""
    for item in items:
        for marker in MARKERS_OF_FOLDER.get(folder_of(item), ()):
            item.add_marker(marker)
        if item.get_closest_marker("netns") or item.get_closest_marker("dataplane"):
            item.add_marker("root")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, what this machine cannot run."""
    reason = missing_for({marker.name for marker in item.iter_markers()})
    if reason is None:
        return
    missing(reason)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Undo what a command that ran in this process did to logs: its stream ends with its test."""
    if not structlog.is_configured():
        return
    structlog.reset_defaults()
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a report was a skip."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Say in the last lines what did not run, and why."""
    yield
    skips = Counter(
        ("/".join(report.nodeid.split("/")[:2]), reason_of(report))
        for report in terminalreporter.stats.get("skipped", [])
    )
    if not skips:
        return
    terminalreporter.section("not run on this machine", sep="=")
    for (folder, reason), count in sorted(skips.items()):
        terminalreporter.write_line(f"{count:4} in {folder}: {reason}")
