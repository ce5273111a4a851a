"""A run's record on disk: who owns it, what it has, where its files lie.

`/run/bucket-brigade-netns/RUN/` holds `owner.json`, `sessions` (the processes started, one a
line), `bpf/` (a bpffs of its own), `tmp/`, `store/` and `hosts/NAME/`. Namespaces are called
`bb-RUN-NAME`. All of it can be found again from here after a SIGKILL.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from netns.errors import NetworkError
from netns.process import ProcessId, is_alive, myself

ROOT = Path("/run/bucket-brigade-netns")
NAMESPACES = Path("/run/netns")
OWNER = "owner.json"
NAMESPACE_PREFIX = "bb-"
_NEW = ".new-"


@dataclass(frozen=True)
class Owner:
    """The process that a run belongs to. ``kept``: it ended and left the network on purpose.

    ``made_namespaces_dir``: /run/netns was not there before.
    """

    pid: int
    start: int
    boot_id: str
    kept: bool = False
    made_namespaces_dir: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.boot_id == boot_id() and is_alive(ProcessId(self.pid, self.start))

    def as_kept(self) -> Owner:
        """Return the same owner, having left the network on purpose."""
        return replace(self, kept=True)


def boot_id() -> str:
    """Return what tells this boot of the machine from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class RunRecord:
    """One run's folder."""

    run: str
    path: Path

    @classmethod
    def create(cls, root: Path = ROOT) -> RunRecord:
        """Begin a run that this process owns. Nothing exists of it before its record does.

        Raises:
            NetworkError: not root.

        """
        if os.geteuid() != 0:
            raise NetworkError("network namespaces need root: run it again with sudo")
        run = secrets.token_hex(3)
        me = myself()
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = root / f"{_NEW}{me.pid}-{run}"
        new.mkdir(mode=0o755)
        # The last to leave takes the directory away, if it was one of us who made it.
        owners = [record.owner() for record in records(root)]
        made = not NAMESPACES.exists() or any(o.made_namespaces_dir for o in owners if o)
        record = cls(run, new)
        record.write_owner(Owner(me.pid, me.start, boot_id(), made_namespaces_dir=made))
        for name in ("hosts", "bpf", "tmp"):
            (new / name).mkdir(mode=0o755)
        # Stores hold keys.
        (new / "store").mkdir(mode=0o700)
        return cls(run, new.rename(root / run))

    @property
    def namespace_prefix(self) -> str:
        """What the names of this run's namespaces begin with."""
        return f"{NAMESPACE_PREFIX}{self.run}-"

    def namespace_path(self, host: str) -> Path:
        """Where a host's namespace has its name."""
        return NAMESPACES / f"{self.namespace_prefix}{host}"

    def namespaces(self) -> list[Path]:
        """Return this run's namespaces that have a name now."""
        if not NAMESPACES.is_dir():
            return []
        return sorted(NAMESPACES.glob(f"{self.namespace_prefix}*"))

    def owner(self) -> Owner | None:
        """Return the owner, None if the record is not readable."""
        try:
            return Owner(**json.loads((self.path / OWNER).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def write_owner(self, owner: Owner) -> None:
        """Write the owner, whole or not at all."""
        new = self.path / f"{OWNER}.new"
        new.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        new.replace(self.path / OWNER)

    def add_session(self, process: ProcessId) -> None:
        """Note a process that was started, before it can be lost."""
        with (self.path / "sessions").open("a", encoding="ascii") as file:
            file.write(f"{process.pid} {process.start}\n")

    def sessions(self) -> dict[int, int]:
        """Return the processes that were started: id -> start time, the latest if used twice."""
        try:
            lines = (self.path / "sessions").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.split() for line in lines)
        return {int(pair[0]): int(pair[1]) for pair in pairs if len(pair) == 2}  # noqa: PLR2004


def records(root: Path = ROOT) -> list[RunRecord]:
    """Return the runs that have a record, half-made ones included."""
    if not root.is_dir():
        return []
    return [
        RunRecord(path.name.rpartition("-")[2], path)
        for path in sorted(root.iterdir())
        if path.is_dir()
    ]
