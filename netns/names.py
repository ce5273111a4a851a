"""The directory of the names of network namespaces, `/run/netns`, as `ip netns` prepares it.

A name is a file with a namespace mounted on it. The directory is a mount of itself, which other
mount namespaces share (ip-netns(8)). The first `ip netns add` on a machine makes it one. If it did
so while a run of ours has names there, each would be mounted twice, the first time out of reach.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from netns.libc import MS_BIND, MS_REC, MS_SHARED, mount, unmount


def mount_points() -> list[Path]:
    """Return all mount points, the latest first."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    points = [Path(line.split()[4].replace("\\040", " ")) for line in text.splitlines()]
    return points[::-1]


def prepare(directory: Path) -> None:
    """Create the directory, and make it a shared mount; do nothing where it is one."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        mount("", directory, "none", MS_SHARED | MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount(str(directory), directory, "none", MS_BIND | MS_REC)
        mount("", directory, "none", MS_SHARED | MS_REC)


def give_back(directory: Path, *, made: bool, mounted: bool) -> None:
    """Undo what `prepare` did, unless the directory has names again."""
    if any(directory in point.parents for point in mount_points()):
        return
    # Somebody may just have used it, or undone this.
    if mounted:
        with suppress(OSError):
            unmount(directory)
    if made:
        with suppress(OSError):
            directory.rmdir()


def remove_name(path: Path) -> None:
    """Remove the name of a namespace; the namespace ends with its last process and socket."""
    if path in mount_points():
        unmount(path)
    path.unlink(missing_ok=True)
