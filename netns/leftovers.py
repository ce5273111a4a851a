"""Removing what a run has: at its end, or, after a SIGKILL, on behalf of the dead.

Every step finds its work from the record and the machine, and does nothing where nothing is left:
it can be done twice, and begun again in the middle.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from netns.libc import unmount
from netns.process import ProcessInfo, kill_and_wait, processes, start_time
from netns.record import NAMESPACES, ROOT, RunRecord, records


def remove_leftovers(root: Path = ROOT, *, kept: bool = False) -> list[str]:
    """Remove the runs whose owner is dead, and return their ids.

    Those kept on purpose are left alone unless `kept` says otherwise.
    """
    removed = []
    for record in records(root):
        owner = record.owner()
        if owner is None and _in_the_making(record):
            continue
        if owner is not None and (owner.alive or (owner.kept and not kept)):
            continue
        remove(record)
        removed.append(record.run)
    return removed


def _in_the_making(record: RunRecord) -> bool:
    """Say whether a record without an owner is one that a live process is just writing."""
    parts = record.path.name.split("-")
    return record.path.name.startswith(".new-") and start_time(int(parts[1])) is not None


def remove(record: RunRecord) -> None:
    """Remove everything that this run has or had."""
    owner = record.owner()
    kill_and_wait([process.id for process in processes_of(record)])
    for point in mount_points():
        if record.path in point.parents:
            unmount(point)
    for path in record.namespaces():
        remove_namespace(path)
    if owner is not None and owner.made_namespaces_dir:
        _remove_if_empty(NAMESPACES)
    shutil.rmtree(record.path, ignore_errors=True)
    _remove_if_empty(record.path.parent)


def processes_of(record: RunRecord) -> list[ProcessInfo]:
    """Return the processes that the run started, and what those started.

    One is recognized by its environment, or by the session of a process that the record names
    together with its namespace (nginx writes its title over its environment). A shell that someone
    opened in one of the namespaces is neither.
    """
    networks = {path.stat().st_ino for path in record.namespaces() if path.exists()}
    sessions = record.sessions()
    return [
        process
        for process in processes()
        if process.run == record.run
        or (process.network in networks and _is_session_of(process.session, sessions))
    ]


def _is_session_of(session: int, sessions: dict[int, int]) -> bool:
    if session not in sessions:
        return False
    return start_time(session) in (None, sessions[session])


def remove_namespace(path: Path) -> None:
    """Take a namespace's name away. It goes when its last process and socket go."""
    if path in mount_points():
        unmount(path)
    path.unlink(missing_ok=True)


def mount_points() -> list[Path]:
    """Return where something is mounted, the latest mount first."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    points = [Path(line.split()[4].replace("\\040", " ")) for line in text.splitlines()]
    return points[::-1]


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        # Somebody else is using it.
        return
