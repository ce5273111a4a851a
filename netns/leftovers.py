"""Removes everything that belongs to a run: at its end, or later if its process was killed.

Each step takes its input from the record and the machine, and does nothing if nothing is left. So a
removal can be repeated, also after an interruption.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from netns.libc import unmount
from netns.names import give_back, mount_points, remove_name
from netns.process import ProcessInfo, kill_and_wait, processes, start_time
from netns.record import NAMESPACES, ROOT, RunRecord, records


def remove_leftovers(root: Path = ROOT, *, kept: bool = False) -> list[str]:
    """Remove the runs whose owner has ended, and return their ids.

    Runs that were kept on purpose stay, unless `kept` is set.
    """
    removed = []
    for record in records(root):
        owner = record.owner()
        if owner is None and _is_being_created(record):
            continue
        if owner is not None and (owner.alive or (owner.kept and not kept)):
            continue
        remove(record)
        removed.append(record.run)
    return removed


def _is_being_created(record: RunRecord) -> bool:
    """Return whether a running process is creating this record, which has no owner yet."""
    parts = record.path.name.split("-")
    return record.path.name.startswith(".new-") and start_time(int(parts[1])) is not None


def remove(record: RunRecord) -> None:
    """Remove everything that belongs to this run."""
    owner = record.owner()
    kill_and_wait([process.id for process in processes_of(record)])
    for point in mount_points():
        if record.path in point.parents:
            unmount(point)
    for path in record.namespaces():
        remove_name(path)
    if owner is not None:
        made, mounted = owner.made_namespaces_dir, owner.mounted_namespaces_dir
        give_back(NAMESPACES, made=made, mounted=mounted)
    shutil.rmtree(record.path, ignore_errors=True)
    _remove_if_empty(record.path.parent)


def processes_of(record: RunRecord) -> list[ProcessInfo]:
    """Return the processes that the run started, and what those started.

    A process of the run has its environment variable, or it is in one of its namespaces and in the
    session of a recorded process (nginx overwrites its environment with its title). A shell that a
    person has opened in one of the namespaces is not a process of the run.
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


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):  # another run uses it
        path.rmdir()
