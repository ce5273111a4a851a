"""Documents that show whether they are whole, deadlines, and other processes that use a store."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from controlplane.store.contract import ControllerStore, StoreConflict, Version

ROOT = Path(__file__).parents[4]


def document(generation: int, author: str, size: int = 50_000) -> bytes:
    """A document with its author and a digest, which shows whether it is whole."""
    body = random.Random(f"{generation} {author}").randbytes(size)
    head = json.dumps([generation, author, hashlib.sha256(body).hexdigest()])
    return head.encode() + b"\n" + body


def read_document(version: Version) -> str:
    """Return the author of a document, after making sure that it is whole and in its place."""
    head, _, body = version.data.partition(b"\n")
    generation, author, digest = json.loads(head)
    assert generation == version.generation
    assert hashlib.sha256(body).hexdigest() == digest
    assert isinstance(author, str)
    return author


def race(store: ControllerStore, kind: str, author: str, until: int, size: int) -> list[int]:
    """Publish what comes next, as often as it takes to reach `until`; return what was won."""
    won: list[int] = []
    while (generation := store.kinds().get(kind, 0) + 1) <= until:
        try:
            store.publish(Version(kind, generation, document(generation, author, size)))
        except StoreConflict:
            continue
        won.append(generation)
    return won


@contextmanager
def later(delay_seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Do something from another thread, `delay_seconds` into the context."""
    timer = threading.Timer(delay_seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


class Worker:
    """Another process: `tests.unit.controlplane.store.worker` with one of its actions."""

    def __init__(self, action: str, *arguments: str | int) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.unit.controlplane.store.worker",
            action,
            *map(str, arguments),
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def expect(self, line: str) -> None:
        """Wait for the worker's next line of progress."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def go(self) -> None:
        """Let a worker that waits go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        """Wait for its end and return what it printed last, as JSON."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return json.loads(out.strip().splitlines()[-1])


def certificate(directory: Path, days: int = 30) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    pem, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days)]
    names = ["-subj", "/CN=lb", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", pem, "-keyout", key], check=True, capture_output=True)
    return pem, key
