"""What tests have other processes do with a store.

Run as `python -m tests.unit.controlplane.store.worker ACTION ...`.

Each prints `ready` when it is set up and its result, as JSON, at the end.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from controlplane.store.contract import StoreError, Version
from controlplane.store.file import atomic as files
from controlplane.store.open import open_controller_store
from tests.unit.controlplane.store.helpers import document, race

KIND = "table/web"


def ready() -> None:
    print("ready", flush=True)


def race_for(url: str, author: str, until: str) -> list[int]:
    """Publish against others once stdin has a line."""
    store = open_controller_store(url)
    ready()
    sys.stdin.readline()
    return race(store, KIND, author, int(until), size=20_000)


def publish_forever(url: str, author: str) -> None:
    """Publish until killed, saying each generation that the store took."""
    store = open_controller_store(url)
    ready()
    while True:
        generation = store.kinds().get(KIND, 0) + 1
        store.publish(Version(KIND, generation, document(generation, author, 200_000)))
        print(generation, flush=True)


def lead(url: str, owner: str) -> None:
    """Lead until killed."""
    with open_controller_store(url).lead(owner):
        ready()
        threading.Event().wait()


def die(url: str, where: str) -> None:
    """Publish the next generation and be killed by SIGKILL at a named point of it."""

    def kill(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write_half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        kill()

    store = open_controller_store(url)
    generation = store.kinds().get(KIND, 0) + 1
    points: dict[str, tuple[object, str, Callable[..., object]]] = {
        "write": (files, "_write_all", write_half),
        "link": (os, "link", kill),
        "sync": (files, "sync_directory", kill),
    }
    setattr(*points[where])
    store.publish(Version(KIND, generation, document(generation, "dead")))


def starve(url: str, limit: str) -> list[str]:
    """Use a store with files limited to so many bytes; print what each call raised."""
    store = open_controller_store(url)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    generation = store.kinds().get(KIND, 0) + 1
    raised = []
    acts: list[Callable[[], object]] = [
        lambda: store.publish(Version(KIND, generation, document(generation, "big"))),
        lambda: store.seed(Version("cluster", 5, document(5, "big"))),
        lambda: store.put_key("hungry", bytes(16)),
        lambda: store.acknowledge("a", KIND, 1),
    ]
    for act in acts:
        try:
            act()
            raised.append("nothing")
        except StoreError as error:
            raised.append(f"{type(error).__name__}: {error}")
    return raised


def trespass(url: str) -> str:
    """Use a store as another user; print what that raised."""
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        open_controller_store(url).kinds()
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


ACTIONS: dict[str, Callable[..., Any]] = {
    "race": race_for,
    "publish": publish_forever,
    "lead": lead,
    "die": die,
    "starve": starve,
    "trespass": trespass,
}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](*sys.argv[2:])), flush=True)
