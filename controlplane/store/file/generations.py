"""One kind's published documents: a directory with one file per generation.

The compare-and-set is ``link(2)``: it makes ``<generation>.json`` whole, in one step, and refuses a
name that is taken. So of any number of publishers exactly one makes each generation. The newest
generation is the highest number in the directory.

Old generations are pruned, and a publisher that looked before the pruning must not get a pruned
name. So a publisher holds a *shared* lock from looking to linking, and pruning needs the
*exclusive* lock. Publishers wait only for a pruning, never for each other. A publisher that is
stopped while it holds the lock delays only the pruning, and the kernel releases the lock of a dead
one.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable
from pathlib import Path

import structlog

from controlplane.store.contract import StoreConflict, StoreCorrupt, StoreUnavailable
from controlplane.store.file.atomic import (
    create_file,
    file_lock,
    make_directory,
    names_in,
    read_file,
    sync_directory,
)

KEPT_GENERATIONS = 16
"""How many generations are kept, for slow readers and for inspection."""

MAX_DOCUMENT_BYTES = 64 << 20
"""Largest document: four times a table of 2^20 buckets, 4 deep."""

LOCK_WAIT_SECONDS = 5.0
"""How long a publisher waits for a pruning to end, which takes a millisecond."""

_FILE = re.compile(r"([1-9][0-9]{0,18})\.json")


class Generations:
    """The generations of one kind in one directory. Raises ``OSError`` and ``StoreError``."""

    def __init__(self, directory: Path, temporaries: Path) -> None:
        self._directory = directory
        self._temporaries = temporaries
        self._flushed = 0
        self._log = structlog.get_logger(__name__)

    def newest(self) -> int:
        """Return the newest generation, 0 if there is none."""
        return max(self._all(), default=0)

    def latest(self) -> tuple[int, bytes] | None:
        """Return the newest generation and its bytes, ``None`` if there is none.

        The result survives a power cut, even if its publisher has not flushed the directory yet.
        Otherwise a generation in use could be published a second time with other content.
        """
        while newest := self.newest():
            if newest != self._flushed:
                sync_directory(self._directory)
                self._flushed = newest
            try:
                return newest, read_file(self._path(newest), MAX_DOCUMENT_BYTES)
            except FileNotFoundError:  # pruned meanwhile: there are newer ones
                continue
        return None

    def publish(self, generation: int, data: bytes) -> None:
        """Add ``generation`` if it is the newest plus one, else raise ``StoreConflict``."""
        self._add(generation, data, fcntl.LOCK_SH, self._follows_newest)
        self._prune()

    def seed(self, generation: int, data: bytes) -> None:
        """Add the first document with any generation; ``StoreConflict`` if it is not the first.

        Needs the exclusive lock: two seeds of different generations have different names.
        """
        self._add(generation, data, fcntl.LOCK_EX, self._comes_first)

    def _follows_newest(self, generation: int) -> None:
        newest = self.newest()
        if newest != generation - 1:
            raise StoreConflict(
                f"generation {generation} of {self._directory.name} lost: {newest} is the newest"
            )

    def _comes_first(self, generation: int) -> None:
        newest = self.newest()
        if newest:
            raise StoreConflict(
                f"generation {generation} of {self._directory.name} cannot seed this store: "
                f"it has generation {newest} already"
            )

    def _add(
        self, generation: int, data: bytes, operation: int, check: Callable[[int], None]
    ) -> None:
        if len(data) > MAX_DOCUMENT_BYTES:
            raise StoreCorrupt(f"a document of {len(data)} bytes is over {MAX_DOCUMENT_BYTES}")
        make_directory(self._directory)
        try:
            with file_lock(self._lock, operation, LOCK_WAIT_SECONDS):
                check(generation)
                create_file(self._path(generation), data, self._temporaries)
        except FileExistsError:
            raise StoreConflict(
                f"generation {generation} of {self._directory.name} lost: it exists already"
            ) from None
        except BlockingIOError as error:
            raise StoreUnavailable(
                f"another process has held {self._lock} for {LOCK_WAIT_SECONDS:g} s: "
                "a controller may be stopped while publishing"
            ) from error

    def _prune(self) -> None:
        """Remove all but the newest generations, or leave that to the next publisher."""
        try:
            with file_lock(self._lock, fcntl.LOCK_EX, wait_seconds=0):
                for generation in sorted(self._all())[:-KEPT_GENERATIONS]:
                    self._path(generation).unlink()
        except BlockingIOError:  # a publisher holds the lock
            return
        except OSError as error:  # the publication itself succeeded
            self._log.warning(
                "cannot remove old generations", path=str(self._directory), error=str(error)
            )

    def _all(self) -> list[int]:
        try:
            names = names_in(self._directory)
        except FileNotFoundError:
            return []
        return [int(match[1]) for name in names if (match := _FILE.fullmatch(name))]

    @property
    def _lock(self) -> Path:
        return self._directory / "lock"

    def _path(self, generation: int) -> Path:
        return self._directory / f"{generation}.json"
