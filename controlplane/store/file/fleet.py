"""Acknowledgements, reports and drain requests on disk: one small file per server.

A file is replaced in one step by ``rename(2)``. Only drain requests are flushed: a report comes
every 250 ms and is worthless after a power cut. An invalid file counts as missing, is logged once
until it is valid again, and does not affect other servers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import structlog

from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.history import Foreseen
from controlplane.domain.names import is_name
from controlplane.domain.objects import Origin, Report, Twin
from controlplane.store.contract import (
    MOST_UNKNOWN,
    NOBODY,
    UNKNOWN_REQUEST,
    StoreCorrupt,
    StoreDenied,
)
from controlplane.store.file.atomic import (
    make_directory,
    names_in,
    read_file,
    remove_file,
    replace_file,
)
from controlplane.store.file.twins import Twins
from controlplane.store.history import MAX_FORESEEN_BYTES, decode_foreseen, encode_foreseen
from controlplane.store.names import check_generation, check_kind, check_name
from controlplane.store.reports import MAX_REPORT_BYTES, decode_report, encode_report, parse_object
from controlplane.store.requests import decode_request

_SUFFIX = ".json"
_MAX_ACKNOWLEDGEMENT_BYTES = 1 << 20
_MAX_REQUEST_BYTES = 4 << 10

T = TypeVar("T")


class Fleet:
    """The files of all servers. Raises ``OSError`` and ``StoreError``."""

    def __init__(self, directory: Path, temporaries: Path) -> None:
        self._temporaries = temporaries
        self._acknowledgements = directory / "acknowledgements"
        self._reports = directory / "reports"
        self._drain_requests = directory / "wishes"
        self._foreseen = directory / "foreseen"
        self._twins = Twins(directory / "twins", directory / "dips.json", temporaries)
        self._writing = threading.Lock()
        self._invalid: set[Path] = set()
        self._log = structlog.get_logger(__name__)

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories in which something changes when the fleet does."""
        return (
            self._acknowledgements,
            self._reports,
            self._drain_requests,
            self._twins.directory,
        )

    def make_directories(self) -> None:
        """Make the directories that do not exist."""
        for directory in (*self.directories, self._foreseen):
            make_directory(directory)

    def acknowledge(self, server: str, kind: str, generation: int, origin: Origin = NOBODY) -> None:
        """Record that a server has a generation in use; a repetition writes nothing.

        Reads and writes under a lock of this process: one server's acknowledgements come from one
        process, its agent or the one that serves the store to it.
        """
        path = self._file(self._acknowledgements, server)
        check_kind(kind)
        check_generation(generation)
        with self._writing:
            self._check_known(server, path)
            self._twins.check(server, origin, self._file(self._reports, server))
            known = self._read(path, _MAX_ACKNOWLEDGEMENT_BYTES, _generations) or {}
            if known.get(kind) != generation:
                data = json.dumps({**known, kind: generation}).encode()
                replace_file(path, data, self._temporaries, durable=False)

    def acknowledgements(self, servers: Collection[str] | None = None) -> dict[str, dict[str, int]]:
        """Return, for each server that ever acknowledged, kind -> generation."""
        limit = _MAX_ACKNOWLEDGEMENT_BYTES
        return self._read_all(self._acknowledgements, limit, _generations, servers)

    def report(self, report: Report) -> None:
        """Replace a server's report."""
        path = self._file(self._reports, report.server)
        data = encode_report(report)
        with self._writing:
            self._check_known(report.server, path)
            self._twins.check(report.server, report.origin, path)
            replace_file(path, data, self._temporaries, durable=False)
            self._twins.wrote(report, path)

    def know_dips(self, dips: Mapping[str, str]) -> None:
        """Set the DIPs of the servers; a repetition writes nothing."""
        self._twins.know(dips)

    def twins(self) -> dict[str, Twin]:
        """Return the newest refused machine of every name that two machines claim."""
        return self._twins.refused()

    def forget_twin(self, server: str) -> None:
        """Forget the machine that was refused under this name."""
        remove_file(self._file(self._twins.directory, server), durable=False)

    def names(self) -> frozenset[str]:
        """Return the names under which somebody ever reported or acknowledged."""
        return frozenset([*_servers_in(self._reports), *_servers_in(self._acknowledgements)])

    def _check_known(self, server: str, path: Path) -> None:
        """Let a name that no cluster has be stored, if it is not one too many.

        Raises:
            StoreDenied: somebody invents names.

        """
        if self._twins.knows(server) or path.exists():
            return
        unknown = [name for name in self.names() if not self._twins.knows(name)]
        if server not in unknown and len(unknown) >= MOST_UNKNOWN:
            raise StoreDenied(
                f"{server} is not in the controller's settings, and {MOST_UNKNOWN} such names are "
                "in use already: correct name in agent.toml, or add the server to control.toml"
            )

    def reports(self, servers: Collection[str] | None = None) -> dict[str, Report]:
        """Return the newest report of every server that ever reported."""
        found = self._read_all(self._reports, MAX_REPORT_BYTES, decode_report, servers)
        return {server: report for server, report in found.items() if report.server == server}

    def request_drain(self, server: str, *, requested: bool, request: DrainRequest) -> None:
        """Set or clear the request to drain a server, durably."""
        path = self._drain_requests / check_name(server, "server")
        if requested:
            data = json.dumps(vars(request)).encode()
            replace_file(path, data, self._temporaries, durable=True)
        else:
            remove_file(path, durable=True)

    def put_foreseen(self, server: str, foreseen: Foreseen) -> None:
        """Keep what is foreseen of a server's change."""
        path, data = self._file(self._foreseen, server), encode_foreseen(foreseen)
        replace_file(path, data, self._temporaries, durable=False)

    def take_foreseen(self, server: str) -> Foreseen | None:
        """Return and forget it."""
        path = self._file(self._foreseen, server)
        found = self._read(path, MAX_FORESEEN_BYTES, decode_foreseen)
        remove_file(path, durable=False)
        return found

    def drain_requests(self) -> dict[str, DrainRequest]:
        """Return the servers whose drain is requested.

        The file's existence is the request. One that cannot be read is a request of which nothing
        is known; earlier versions made empty files.
        """
        names = [name for name in names_in(self._drain_requests) if is_name(name)]
        return {name: self._drain_request(self._drain_requests / name) for name in names}

    def _drain_request(self, path: Path) -> DrainRequest:
        return self._read(path, _MAX_REQUEST_BYTES, decode_request) or UNKNOWN_REQUEST

    def forget(self, server: str) -> None:
        """Remove all that is known of a server."""
        with self._writing:
            remove_file(self._file(self._acknowledgements, server), durable=True)
        remove_file(self._file(self._reports, server), durable=False)
        remove_file(self._file(self._twins.directory, server), durable=False)
        remove_file(self._file(self._foreseen, server), durable=False)
        remove_file(self._drain_requests / server, durable=True)

    def _file(self, directory: Path, server: str) -> Path:
        return directory / f"{check_name(server, 'server')}{_SUFFIX}"

    def _read_all(
        self,
        directory: Path,
        limit_bytes: int,
        parse: Callable[[bytes], T],
        servers: Collection[str] | None,
    ) -> dict[str, T]:
        """Return the content of the files of these servers, ``None``: of all."""
        found = {}
        for server in _servers_in(directory) if servers is None else servers:
            content = self._read(self._file(directory, server), limit_bytes, parse)
            if content is not None:
                found[server] = content
        return found

    def _read(self, path: Path, limit_bytes: int, parse: Callable[[bytes], T]) -> T | None:
        try:
            content = parse(read_file(path, limit_bytes))
        except FileNotFoundError:
            return None
        except (StoreCorrupt, OSError) as error:
            if path not in self._invalid:
                self._log.warning("file ignored", path=str(path), error=str(error))
            self._invalid.add(path)
            return None
        self._invalid.discard(path)
        return content


def _servers_in(directory: Path) -> list[str]:
    """Return the servers that have a file in a directory."""
    names = [n.removesuffix(_SUFFIX) for n in names_in(directory) if n.endswith(_SUFFIX)]
    return [name for name in names if is_name(name)]


def _generations(data: bytes) -> dict[str, int]:
    content = parse_object(data, "an acknowledgement")
    return {check_kind(kind): check_generation(value) for kind, value in content.items()}
