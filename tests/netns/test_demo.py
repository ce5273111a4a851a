"""`lbctl demo` as a process: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netns.leftovers import processes_of
from netns.polling import wait_until
from netns.record import NAMESPACES, records
from tests.netns import snapshot
from tests.netns.traces import differs_in_nothing

LBCTL = (sys.executable, "-c", "from lb.cli.main import main; main()")
DEMO_SECONDS = 90.0


def demo(*words: str) -> subprocess.Popen[str]:
    # A session of its own: signals of the test reach this process alone.
    return subprocess.Popen(
        [*LBCTL, "demo", "--quick", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=DEMO_SECONDS)
    return process.returncode, output


def run_of(process: subprocess.Popen[str]) -> str:
    """The run that a demo process owns; empty before it has one."""
    for record in records():
        owner = record.owner()
        if owner is not None and owner.pid == process.pid:
            return record.run
    return ""


def command_lines(run: str) -> dict[int, str]:
    found = {}
    for record in records():
        for process in processes_of(record) if record.run == run else ():
            path = Path(f"/proc/{process.id.pid}/cmdline")
            if path.exists():
                found[process.id.pid] = path.read_bytes().replace(b"\0", b" ").decode()
    return found


def await_agents(process: subprocess.Popen[str]) -> str:
    """Wait until the demo's agents run and have pinned their programs."""

    def agents_pinned() -> bool:
        run = run_of(process)
        return bool(run) and bool(list(Path(f"/run/bucket-brigade-netns/{run}/bpf").glob("*/eth0")))

    wait_until(agents_pinned, "the agents have pinned their programs", 30.0)
    return run_of(process)


@pytest.mark.parametrize("refused", ["sys_admin", "net_admin", "all"])
def test_without_a_capability_it_ends_with_one_line_and_the_remedy(refused: str) -> None:
    before = snapshot.take()
    done = subprocess.run(
        ["setpriv", f"--bounding-set=-{refused}", f"--inh-caps=-{refused}", *LBCTL, "demo"],
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("lbctl: error: the network cannot be built here")
    assert line.endswith("in a container, start it privileged")
    assert differs_in_nothing(before) == []


def test_a_demo_that_succeeds_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    before = snapshot.take()
    path = tmp_path / "demo.json"
    code, output = ended(demo("--only", "spread", "--json", str(path)))
    assert code == 0, output
    assert "every promise kept" in output
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["ok"] is True
    (spread,) = found["steps"]
    assert spread["name"] == "spread"
    assert sum(spread["accepts"].values()) == spread["tcp_open"] == 2000
    assert differs_in_nothing(before) == []


def test_a_demo_whose_promise_breaks_fails_and_leaves_nothing() -> None:
    before = snapshot.take()
    process = demo("--only", "spread")
    run = await_agents(process)
    masters = [p for p, line in command_lines(run).items() if "nginx: master" in line]
    for pid in masters:
        os.kill(pid, signal.SIGKILL)
    assert masters
    code, output = ended(process)
    assert code == 1, output
    assert "PROMISE BROKEN" in " ".join(output.split())
    assert differs_in_nothing(before) == []


def test_a_demo_that_cannot_be_set_up_fails_in_one_line_and_leaves_nothing() -> None:
    before = snapshot.take()
    process = demo("--only", "spread")
    wait_until(
        lambda: "lbctl up" in " ".join(command_lines(run_of(process)).values()), "an agent", 30.0
    )
    for pid, line in command_lines(run_of(process)).items():
        if "lbctl up" in line:
            os.kill(pid, signal.SIGKILL)
            break
    code, output = ended(process)
    assert code == 1, output
    assert "lbctl: error: agent on server" in output
    assert "Traceback" not in output
    assert differs_in_nothing(before) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(number: signal.Signals) -> None:
    before = snapshot.take()
    process = demo("--only", "join")
    await_agents(process)
    time.sleep(1.0)  # into the middle of things, wherever that is
    process.send_signal(number)
    code, output = ended(process)
    assert code == 130, output
    assert differs_in_nothing(before) == []


def test_after_sigkill_the_next_demo_removes_what_was_left() -> None:
    before = snapshot.take()
    process = demo("--only", "join")
    run = await_agents(process)
    process.kill()
    process.communicate()
    assert list(NAMESPACES.glob(f"bb-{run}-*"))
    assert command_lines(run)
    code, output = ended(demo("--only", "spread"))
    assert code == 0, output
    assert f"removed what an earlier run left behind ({run})" in output
    assert differs_in_nothing(before) == []
