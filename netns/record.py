"""The record of a run on disk: its owner, its processes, its files.

`/run/bucket-brigade-netns/RUN/` holds `owner.json`, `sessions` (the processes started, one a
line), `bpf/` (its bpffs), `tmp/`, `store/` and `hosts/NAME/`. Namespaces are called `bb-RUN-NAME`.
After a SIGKILL, everything that belongs to the run can be found from here.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from netns.errors import NetworkError
from netns.names import mount_points
from netns.process import ProcessId, is_alive, myself

ROOT = Path("/run/bucket-brigade-netns")
NAMESPACES = Path("/run/netns")
OWNER = "owner.json"
NAMESPACE_PREFIX = "bb-"
_NEW = ".new-"


@dataclass(frozen=True)
class Owner:
    """The process that owns a run. ``kept``: it has ended and left the network on purpose.

    ``made_namespaces_dir``: /run/netns did not exist before. ``mounted_namespaces_dir``: it was not
    a mount point. The last of several runs gives it back as it was.
    """

    pid: int
    start: int
    boot_id: str
    kept: bool = False
    made_namespaces_dir: bool = False
    mounted_namespaces_dir: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.boot_id == boot_id() and is_alive(ProcessId(self.pid, self.start))


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class RunRecord:
    """One run's folder."""

    run: str
    path: Path

    @classmethod
    def create(cls, root: Path = ROOT) -> RunRecord:
        """Start a run that this process owns; the record is created before anything else.

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
        # The last run removes the directory, if one of the runs has created it.
        owners = [record.owner() for record in records(root)]
        made = not NAMESPACES.exists() or any(o.made_namespaces_dir for o in owners if o)
        mounted = NAMESPACES not in mount_points() or any(
            o.mounted_namespaces_dir for o in owners if o
        )
        record = cls(run, new)
        record.write_owner(
            Owner(
                me.pid,
                me.start,
                boot_id(),
                made_namespaces_dir=made,
                mounted_namespaces_dir=mounted,
            )
        )
        for name in ("hosts", "bpf", "tmp"):
            (new / name).mkdir(mode=0o755)
        # A store contains keys.
        (new / "store").mkdir(mode=0o700)
        return cls(run, new.rename(root / run))

    @property
    def namespace_prefix(self) -> str:
        """Prefix of the names of this run's namespaces."""
        return f"{NAMESPACE_PREFIX}{self.run}-"

    def namespace_path(self, host: str) -> Path:
        """Path of the name of a host's namespace."""
        return NAMESPACES / f"{self.namespace_prefix}{host}"

    def namespaces(self) -> list[Path]:
        """Return the names of this run's namespaces."""
        if not NAMESPACES.is_dir():
            return []
        return sorted(NAMESPACES.glob(f"{self.namespace_prefix}*"))

    def owner(self) -> Owner | None:
        """Return the owner, or None if the record cannot be read."""
        try:
            return Owner(**json.loads((self.path / OWNER).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def write_owner(self, owner: Owner) -> None:
        """Write the owner atomically."""
        new = self.path / f"{OWNER}.new"
        new.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        new.replace(self.path / OWNER)

    def add_session(self, process: ProcessId) -> None:
        """Record a process that was started."""
        with (self.path / "sessions").open("a", encoding="ascii") as file:
            file.write(f"{process.pid} {process.start}\n")

    def sessions(self) -> dict[int, int]:
        """Return the recorded processes: id -> start time, the latest if an id was reused."""
        try:
            lines = (self.path / "sessions").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.split() for line in lines)
        return {int(pair[0]): int(pair[1]) for pair in pairs if len(pair) == 2}  # noqa: PLR2004


def records(root: Path = ROOT) -> list[RunRecord]:
    """Return the runs that have a record, incomplete ones included."""
    if not root.is_dir():
        return []
    return [
        RunRecord(path.name.rpartition("-")[2], path)
        for path in sorted(root.iterdir())
        if path.is_dir()
    ]
