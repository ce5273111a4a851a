"""Which machine may report and acknowledge under a server's name.

The one whose DIP the controller knows. Of two with this DIP, the one that came first, as long as it
reports: a machine that was installed again or moved takes the name over once the old one is silent.
A boot id identifies a machine; agents of one machine follow each other freely.

Ages are measured by this process's monotonic clock, from changes that it sees itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.names import is_name
from controlplane.domain.objects import Origin, Report, Twin
from controlplane.store.contract import StoreConflict, StoreCorrupt
from controlplane.store.file.atomic import names_in, read_file, remove_file, replace_file
from controlplane.store.reports import MAX_REPORT_BYTES, decode_report, parse_object, read_origin

LIVE_SECONDS = 5.0
"""A machine whose report has not changed for this long is silent."""
_MAX_BYTES = 1 << 20
_SUFFIX = ".json"
_MAX_COUNT = (1 << 53) - 1


class Twins:
    """Judges reports before they are written, and keeps what was refused. One file a server."""

    def __init__(
        self,
        directory: Path,
        dips: Path,
        temporaries: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self._dips = dips
        self._temporaries = temporaries
        self._clock = clock
        self._known: tuple[object, Mapping[str, str]] = (None, {})
        self._believed: dict[str, tuple[object, Report]] = {}
        self._marks: dict[str, tuple[tuple[str, int], float]] = {}
        self._accepted: dict[str, Origin] = {}

    def know(self, dips: Mapping[str, str]) -> None:
        """Save the DIPs of the cluster's servers; a repetition writes nothing."""
        if dict(self._read_dips()) != dict(dips):
            data = json.dumps(dict(sorted(dips.items()))).encode()
            replace_file(self._dips, data, self._temporaries, durable=False)

    def knows(self, server: str) -> bool:
        """Whether the cluster has a server of this name."""
        return server in self._read_dips()

    def check(self, server: str, origin: Origin, current: Path) -> None:
        """Let a machine report or acknowledge as this server, or refuse it.

        ``current`` is the file with the report of the machine that is believed.

        Raises:
            StoreConflict: the name is another machine's; the line has the remedy.

        """
        known = self._read_dips().get(server)
        if known and origin.dip and origin.dip != known:
            self._refuse(server, origin, f"{server} is the server with DIP {known}")
        believed = self._read_believed(server, current)
        if believed is None or believed.stopped or believed.origin == origin:
            return
        if not believed.origin.dip or (known == origin.dip != believed.origin.dip):
            return
        if self._live(server, believed):
            other = f"with DIP {believed.origin.dip}, boot id {believed.origin.machine}"
            self._refuse(server, origin, f"another machine reports as {server}, {other}")

    def refused(self) -> dict[str, Twin]:
        """Return the machines that were refused, by the server that they claim to be."""
        found = {}
        for name in names_in(self.directory):
            server = name.removesuffix(_SUFFIX)
            if name.endswith(_SUFFIX) and is_name(server):
                twin = self._read_twin(self.directory / name)
                if twin is not None:
                    found[server] = twin
        return found

    def _refuse(self, server: str, origin: Origin, reason: str) -> None:
        self._accepted.pop(server, None)
        path = self.directory / f"{server}{_SUFFIX}"
        before = self._read_twin(path)
        count = min(_MAX_COUNT, before.refused + 1 if before else 1)
        content = {"dip": origin.dip, "machine": origin.machine, "refused": count}
        replace_file(path, json.dumps(content).encode(), self._temporaries, durable=False)
        raise StoreConflict(
            f"{reason}, this machine has DIP {origin.dip or 'unknown'}: it is ignored. Give it a "
            "name of its own in agent.toml (and in the controller's file), or stop the other one"
        )

    def _live(self, server: str, believed: Report) -> bool:
        """Whether a report has changed within LIVE_SECONDS; the first look cannot know, so yes."""
        mark, now = (believed.boot_id, believed.sequence), self._clock()
        seen = self._marks.get(server)
        if seen is None or seen[0] != mark:
            self._marks[server] = mark, now
            return True
        return now - seen[1] < LIVE_SECONDS

    def _read_dips(self) -> Mapping[str, str]:
        """Return the DIPs that the controller knows; none before it has written them."""
        version = _version(self._dips)
        if version != self._known[0]:
            self._known = version, _texts(self._dips)
        return self._known[1]

    def _read_believed(self, server: str, path: Path) -> Report | None:
        """Return the report that is believed now, decoded once a version."""
        version = _version(path)
        if version is None:
            return None
        seen = self._believed.get(server)
        if seen is None or seen[0] != version:
            try:
                report = decode_report(read_file(path, MAX_REPORT_BYTES))
            except (StoreCorrupt, OSError):
                return None
            seen = self._believed[server] = version, report
        return seen[1]

    def wrote(self, report: Report, path: Path) -> None:
        """Note that this process has just written a report, which it need not read again.

        A machine that was refused before, as one that boots is while the name may still be in use
        by the boot before, is refused no more.
        """
        server = report.server
        self._believed[server] = _version(path), report
        self._live(server, report)  # from now on it is known for how long it does not change
        if self._accepted.get(server) != report.origin:
            self._accepted[server] = report.origin
            refused = self.directory / f"{server}{_SUFFIX}"
            twin = self._read_twin(refused)
            if twin is not None and twin.origin == report.origin:
                remove_file(refused, durable=False)

    def _read_twin(self, path: Path) -> Twin | None:
        try:
            content = parse_object(read_file(path, _MAX_BYTES), "a refused machine")
            count = content.get("refused")
            if type(count) is not int or not 0 < count <= _MAX_COUNT:
                return None
            return Twin(read_origin(content), count)
        except (StoreCorrupt, OSError):
            return None


def _version(path: Path) -> object:
    """Return what changes whenever a file is replaced; ``None``: there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _texts(path: Path) -> dict[str, str]:
    try:
        content: dict[str, Any] = parse_object(read_file(path, _MAX_BYTES), "the servers' DIPs")
    except (StoreCorrupt, OSError):
        return {}
    return {name: dip for name, dip in content.items() if isinstance(dip, str)}
