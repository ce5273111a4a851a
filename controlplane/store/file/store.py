"""The ``file:`` store: a directory on one machine.

::

    documents/cluster/41.json          one file a generation; the highest number is the newest
    documents/table.web/107.json
    documents/controller/9.json        what a controller that takes over goes on from
    keys/<key id>                      16 bytes, mode 0600 in a directory of mode 0700
    acknowledgements/<server>.json     reports/<server>.json     wishes/<server>
    twins/<server>.json                a machine that claims a name of another one
    dips.json                          the DIPs that belong to the names
    decisions.json                     what the leader decided last, for people
    mark                               the leader's newest mark, for agents
    asked                              the flows that the leader asks agents for
    leader                             locked by the leading controller, holds its name
    tmp/                               files not yet whole

``wishes/`` holds drain requests. ``generations.py`` explains publication, ``docs/stores.md`` the
guarantees.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from controlplane.documents.presence import Mark
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.decisions import Decisions
from controlplane.domain.history import Event, Foreseen
from controlplane.domain.names import shown
from controlplane.domain.objects import AskedFlow, Origin, Report, Twin
from controlplane.domain.seen_dumps import SeenDump
from controlplane.store.asked import MAX_ASKED_BYTES, asked_to_text, text_to_asked
from controlplane.store.contract import (
    NOBODY,
    UNKNOWN_REQUEST,
    ControllerStore,
    StoreConflict,
    StoreUnavailable,
    Version,
    is_newer,
)
from controlplane.store.decisions import (
    MAX_DECISIONS_BYTES,
    decode_decisions,
    encode_decisions,
)
from controlplane.store.dumps import MAX_DUMPS_BYTES, decode_dumps, encode_dumps
from controlplane.store.file.atomic import (
    file_lock,
    make_directory,
    names_in,
    read_file,
    refuse_lax,
    replace_file,
    store_errors,
    sweep_temporaries,
)
from controlplane.store.file.fleet import Fleet
from controlplane.store.file.generations import Generations
from controlplane.store.file.inotify import IN_CREATE, IN_DELETE, IN_MOVED_TO, Inotify
from controlplane.store.file.keyring import Keyring
from controlplane.store.history import MAX_HISTORY_BYTES, decode_history, encode_history
from controlplane.store.marks import mark_to_text, text_to_mark
from controlplane.store.names import check_document, check_generation, kind_to_stem, stem_to_kind

DECISIONS = "decisions.json"
DUMPS = "dumps.json"
HISTORY = "history.json"
MARK = "mark"
ASKED = "asked"
_CLOSE_SECONDS = 0.2
"""How soon waiting threads notice that the store was closed."""
_MAX_OWNER_BYTES = 256
_MAX_MARK_BYTES = 64


class FileStore(ControllerStore):
    """A store in a directory, for any number of processes and threads of one machine."""

    def __init__(self, directory: Path | str) -> None:
        """Name the directory. It is made when it is first needed."""
        self.directory = Path(directory)
        self._documents = self.directory / "documents"
        self._temporaries = self.directory / "tmp"
        self._keyring = Keyring(self.directory / "keys", self._temporaries)
        self._fleet = Fleet(self.directory, self._temporaries)
        self._read_kinds: dict[str, Generations] = {}
        self._prepared = False
        self._closed = threading.Event()
        self._lending = threading.Lock()
        self._idle_watches: list[Inotify] = []
        self._fleet_watch: Inotify | None = None
        self._fleet_waiting = threading.Lock()

    # Agents

    def latest(self, kind: str) -> Version | None:
        """Return the newest document of this kind, ``None`` if there never was one."""
        with self._using(f"cannot read the {shown(kind)} document"):
            generations = self._generations(kind)
            found = generations.latest()
        if found is None:
            return None
        self._read_kinds[kind] = generations  # it remembers which generation is flushed
        return Version(kind, *found)

    def kinds(self) -> Mapping[str, int]:
        """Return every published kind with its newest generation."""
        with self._using("cannot list the documents"):
            return self._kinds()

    def wait(self, seen: Mapping[str, int], timeout_seconds: float) -> Mapping[str, int]:
        """Block until some kind is newer than in ``seen``, or the timeout. Uses ``inotify``."""
        deadline = time.monotonic() + timeout_seconds
        with self._using("cannot wait for documents"), self._document_watch() as watch:
            while True:
                watch.add(self._documents, IN_CREATE)
                for kind in self._stems():
                    watch.add(self._documents / kind, IN_CREATE)
                kinds = self._kinds()
                if is_newer(kinds, seen) or time.monotonic() >= deadline:
                    return kinds
                self._pause(watch, deadline)

    def key(self, key_id: str) -> bytes:
        """Return a pool's secret key (16 bytes). ``StoreCorrupt`` if there is none."""
        with self._using("cannot read a key"):
            return self._keyring.get(key_id)

    def acknowledge(self, server: str, kind: str, generation: int, origin: Origin = NOBODY) -> None:
        """Record that this server's data plane has this generation in use."""
        with self._using("cannot acknowledge"):
            self._fleet.acknowledge(server, kind, generation, origin)

    def report(self, report: Report) -> None:
        """Replace this server's report."""
        with self._using("cannot report"):
            self._fleet.report(report)
            self.mark = self._read_mark()
            self.asked = self._read_asked()

    def is_led(self) -> bool:
        """Return whether a controller on this machine leads."""
        return self.leader() is not None

    def close(self) -> None:
        """End waiting calls and close descriptors. Leadership ends with its context."""
        self._closed.set()
        with self._lending:
            while self._idle_watches:
                self._idle_watches.pop().close()
        with self._fleet_waiting:
            if self._fleet_watch is not None:
                self._fleet_watch.close()
                self._fleet_watch = None

    # Operators

    def request_drain(
        self, server: str, *, requested: bool, request: DrainRequest = UNKNOWN_REQUEST
    ) -> None:
        """Set or clear the request to drain this server. It outlives controllers."""
        with self._using("cannot store a drain request"):
            self._fleet.request_drain(server, requested=requested, request=request)

    def drain_requests(self) -> Mapping[str, DrainRequest]:
        """Return the servers whose drain is requested, each with its request."""
        with self._using("cannot read the drain requests"):
            return self._fleet.drain_requests()

    # Controllers

    def publish(self, version: Version) -> None:
        """Publish a generation if the newest of its kind is exactly one less."""
        check_generation(version.generation)
        with self._using(f"cannot publish the {shown(version.kind)} document"):
            self._generations(version.kind).publish(version.generation, version.data)

    def seed(self, version: Version) -> None:
        """Put a document of any generation into a store that has none of its kind."""
        check_generation(version.generation)
        with self._using(f"cannot seed the {shown(version.kind)} document"):
            self._generations(version.kind).seed(version.generation, version.data)

    def put_key(self, key_id: str, key: bytes) -> None:
        """Create a key. ``StoreConflict`` if the id is taken by other bytes."""
        with self._using("cannot store a key"):
            self._keyring.create(key_id, key)

    def acknowledgements(
        self, servers: Collection[str] | None = None
    ) -> Mapping[str, Mapping[str, int]]:
        """Return, for each server that ever acknowledged, kind -> generation."""
        with self._using("cannot read the acknowledgements"):
            return self._fleet.acknowledgements(servers)

    def names(self) -> Collection[str]:
        """Return the names under which somebody ever reported or acknowledged."""
        with self._using("cannot read the names of servers"):
            return self._fleet.names()

    def know_dips(self, dips: Mapping[str, str]) -> None:
        """Set the DIPs of the servers: reports and acknowledgements of others are refused."""
        with self._using("cannot save the servers' DIPs"):
            self._fleet.know_dips(dips)

    def twins(self) -> Mapping[str, Twin]:
        """Return the newest refused machine of every name that two machines claim."""
        with self._using("cannot read the refused machines"):
            return self._fleet.twins()

    def forget_twin(self, server: str) -> None:
        """Forget the machine that was refused under this name."""
        with self._using("cannot forget a refused machine"):
            self._fleet.forget_twin(server)

    def reports(self, servers: Collection[str] | None = None) -> Mapping[str, Report]:
        """Return the newest report of every server that ever reported."""
        with self._using("cannot read the reports"):
            return self._fleet.reports(servers)

    def wait_reports(self, timeout_seconds: float) -> None:
        """Block until the fleet has changed since the last call returned, or the timeout."""
        deadline = time.monotonic() + timeout_seconds
        with self._using("cannot wait for reports"), self._fleet_waiting:
            if self._fleet_watch is None:
                self._fleet_watch = Inotify()
            for directory in self._fleet.directories:
                self._fleet_watch.add(directory, IN_MOVED_TO | IN_DELETE)
            while not self._pause(self._fleet_watch, deadline):
                if time.monotonic() >= deadline:
                    return

    def put_decisions(self, decisions: Decisions) -> None:
        """Replace what the controller decided last, for people. Not durable."""
        with self._using("cannot store the decisions"):
            data = encode_decisions(decisions)
            replace_file(self.directory / DECISIONS, data, self._temporaries, durable=False)

    def put_foreseen(self, server: str, foreseen: Foreseen) -> None:
        """Keep what the plan of a change contains that is requested next. Not durable."""
        with self._using("cannot store what is foreseen"):
            self._fleet.put_foreseen(server, foreseen)

    def take_foreseen(self, server: str) -> Foreseen | None:
        """Return and forget what is foreseen of a server's change; ``None``: nothing."""
        with self._using("cannot read what is foreseen"):
            return self._fleet.take_foreseen(server)

    def put_history(self, events: Sequence[Event]) -> None:
        """Replace what happened to servers, for people. Not durable."""
        with self._using("cannot store the history"):
            data = encode_history(events)
            replace_file(self.directory / HISTORY, data, self._temporaries, durable=False)

    def history(self) -> tuple[Event, ...]:
        """Return what happened to servers, the oldest first."""
        with self._using("cannot read the history"):
            try:
                data = read_file(self.directory / HISTORY, MAX_HISTORY_BYTES)
            except FileNotFoundError:
                return ()
            return decode_history(data)

    def put_dumps(self, dumps: Mapping[str, SeenDump]) -> None:
        """Replace the last dumps of servers' sockets, for plans. Not durable."""
        with self._using("cannot store the dumps"):
            data = encode_dumps(dumps)
            replace_file(self.directory / DUMPS, data, self._temporaries, durable=False)

    def dumps(self) -> Mapping[str, SeenDump]:
        """Return the last dumps of servers' sockets, as far as a controller has seen any."""
        with self._using("cannot read the dumps"):
            try:
                data = read_file(self.directory / DUMPS, MAX_DUMPS_BYTES)
            except FileNotFoundError:
                return {}
            return decode_dumps(data)

    def put_mark(self, mark: Mark) -> None:
        """Give out a mark: every report that is answered from now on has it. Not durable."""
        with self._using("cannot give out a mark"):
            data = mark_to_text(mark).encode()
            replace_file(self.directory / MARK, data, self._temporaries, durable=False)

    def put_asked(self, asked: Collection[AskedFlow]) -> None:
        """Ask for these flows in every answer to a report from now on. Not durable."""
        with self._using("cannot ask for flows"):
            data = asked_to_text(asked).encode()
            replace_file(self.directory / ASKED, data, self._temporaries, durable=False)

    def decisions(self) -> Decisions | None:
        """Return what a controller decided last, ``None`` if none ever wrote it."""
        with self._using("cannot read the decisions"):
            try:
                data = read_file(self.directory / DECISIONS, MAX_DECISIONS_BYTES)
            except FileNotFoundError:
                return None
            return decode_decisions(data)

    def forget(self, server: str) -> None:
        """Drop a removed server's acknowledgements, report and drain request."""
        with self._using("cannot forget a server"):
            self._fleet.forget(server)

    def leader(self) -> str | None:
        """Return who holds leadership, ``None`` if nobody does.

        The shared lock is held for a moment; a controller that meets it tries again.
        """
        path = self.directory / "leader"
        with self._using("cannot see who leads"):
            if not path.exists():
                return None
            try:
                with file_lock(path, fcntl.LOCK_SH, wait_seconds=0):
                    return None
            except BlockingIOError:
                return _holder(path)

    @contextmanager
    def lead(self, owner: str) -> Iterator[None]:
        """Hold leadership for the context's life; ``StoreConflict`` names the holder if taken."""
        path = self.directory / "leader"
        with self._using("cannot take the lead"), ExitStack() as held:
            try:
                descriptor = held.enter_context(file_lock(path, fcntl.LOCK_EX, wait_seconds=0))
            except BlockingIOError:
                raise StoreConflict(f"{_holder(path)} leads already") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{shown(owner)[1:-1]} (pid {os.getpid()})".encode(), 0)
            held.callback(os.ftruncate, descriptor, 0)
            freed = held.pop_all()
        with freed:
            yield

    # Internal

    @contextmanager
    def _using(self, action: str) -> Iterator[None]:
        if self._closed.is_set():
            raise StoreUnavailable("the store was closed")
        try:
            with store_errors(action):
                self._prepare()
                yield
        except StoreUnavailable:
            self._prepared = False  # make the directory again if it was removed
            raise

    def _prepare(self) -> None:
        if self._prepared:
            return
        make_directory(self.directory)
        refuse_lax(self.directory.resolve(), 0o022, "go-w")
        make_directory(self._documents)
        make_directory(self._temporaries)
        self._fleet.make_directories()
        sweep_temporaries(self._temporaries, time.time())
        self._prepared = True

    @contextmanager
    def _document_watch(self) -> Iterator[Inotify]:
        """Lend a watch to one waiting thread. Watches are kept: ending one takes 8 ms."""
        with self._lending:
            watch = self._idle_watches.pop() if self._idle_watches else Inotify()
        try:
            yield watch
        finally:
            with self._lending:
                if self._closed.is_set():
                    watch.close()
                else:
                    self._idle_watches.append(watch)

    def _pause(self, watch: Inotify, deadline: float) -> bool:
        if self._closed.is_set():
            raise StoreUnavailable("the store was closed")
        return watch.wait(min(_CLOSE_SECONDS, deadline - time.monotonic()))

    def _read_mark(self) -> Mark | None:
        try:
            data = read_file(self.directory / MARK, _MAX_MARK_BYTES)
        except FileNotFoundError:
            return None
        return text_to_mark(data.decode(errors="replace"))

    def _read_asked(self) -> frozenset[AskedFlow]:
        try:
            data = read_file(self.directory / ASKED, MAX_ASKED_BYTES)
        except FileNotFoundError:
            return frozenset()
        return text_to_asked(data.decode(errors="replace"))

    def _generations(self, kind: str) -> Generations:
        path = self._documents / kind_to_stem(check_document(kind))
        return self._read_kinds.get(kind) or Generations(path, self._temporaries)

    def _stems(self) -> list[str]:
        return [stem for stem in names_in(self._documents) if stem_to_kind(stem)]

    def _kinds(self) -> dict[str, int]:
        newest = {
            kind: self._generations(kind).newest()
            for kind in map(stem_to_kind, self._stems())
            if kind is not None
        }
        return {kind: generation for kind, generation in sorted(newest.items()) if generation}


def _holder(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_OWNER_BYTES).decode(errors="replace") or "another controller"
