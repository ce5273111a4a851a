"""The record on disk: what `lbctl up` changed on this machine, so that `lbctl down` can undo it.

Every change is recorded before it is made. A record may therefore list a change that was never
made; undo ignores those. It must never lack one that was made.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import Vip, vip_text
from lb.agent.machine.atomic_file import write_atomically
from lb.agent.machine.boot import NamespaceId

VERSION = 1
FILE = "record.json"
TUPLES = (
    *("forwarders", "redirectors", "egresses"),
    *("egress_links", "clsact_links", "directories_made"),
)


@dataclass(frozen=True)
class Record:
    """What was changed, and in which network namespace.

    ``forwarders``, ``redirectors`` and ``egresses`` are BPF program ids; several while one replaces
    another. ``egress_links`` are other interfaces with the egress program, and ``clsact_links``
    those of them that have a clsact qdisc of ours.
    ``sysctls`` maps a file below ``/proc/sys`` to (value before, value set). ``vips`` are those
    added to ``lo``, not those that were there before. ``announced``: ``on_ready`` has run, or was
    about to, and ``on_withdraw`` has not since. ``mss_table`` is the routing table with routes of
    ours and rules that lead to it, 0 for none.
    """

    namespace: NamespaceId
    interface: str
    bpffs: str
    xdp_mode: str = "native"
    forwarders: tuple[int, ...] = ()
    redirectors: tuple[int, ...] = ()
    egresses: tuple[int, ...] = ()
    egress_links: tuple[str, ...] = ()
    clsact_made: bool = False
    clsact_links: tuple[str, ...] = ()
    directories_made: tuple[str, ...] = ()
    sysctls: dict[str, tuple[str, str]] = field(default_factory=dict)
    vips: tuple[Vip, ...] = ()
    announced: bool = False
    run_dir_made: bool = False
    mss_table: int = 0


def encode(record: Record) -> str:
    """Return the record as JSON."""
    plain = {**asdict(record), "vips": [vip_text(vip) for vip in record.vips], "version": VERSION}
    plain["place"] = plain.pop("namespace")
    return json.dumps(plain, indent=1) + "\n"


def decode(text: str) -> Record:
    """Read what ``encode`` wrote. ``ValueError``, ``KeyError``, ...: it is something else."""
    plain: dict[str, Any] = json.loads(text)
    if plain.pop("version") != VERSION:
        raise ValueError("written by another version")
    plain["namespace"] = NamespaceId(**plain.pop("place"))
    plain["sysctls"] = {path: (old, new) for path, (old, new) in plain["sysctls"].items()}
    plain["vips"] = tuple(ip_network(vip) for vip in plain["vips"])
    for name in TUPLES:
        plain[name] = tuple(plain.get(name, ()))
    return Record(**plain)


class Journal:
    """The owner of a record and of its file; any thread may add to it."""

    def __init__(self, state_dir: Path, record: Record) -> None:
        self._path = state_dir / FILE
        self._lock = threading.Lock()
        self.record = record

    def note(self, **changes: Any) -> None:
        """Save changed fields, durably, before the change itself is made."""
        with self._lock:
            changed = replace(self.record, **changes)
            if changed != self.record:
                write_atomically(self._path, encode(changed), mode=0o600, durable=True)
                self.record = changed

    def is_on_disk(self) -> bool:
        """Whether the file is there."""
        return self._path.exists()

    def rewrite(self) -> None:
        """Write the file again: somebody has removed it.

        Raises:
            BrigadeError: it cannot be written.

        """
        with self._lock:
            write_atomically(self._path, encode(self.record), mode=0o600, durable=True)


def erase_record(state_dir: Path) -> None:
    """Remove the record: everything is undone."""
    (state_dir / FILE).unlink(missing_ok=True)


def read_record(state_dir: Path) -> Record | None:
    """Return the record of this state directory, ``None`` if there is none.

    Raises:
        BrigadeError: it is there but cannot be read.

    """
    path = state_dir / FILE
    try:
        return decode(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrigadeError(
            f"{path} cannot be read ({error}): check the interface by hand, then remove the file"
        ) from error
