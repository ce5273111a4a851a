"""Stock kernels: from a Debian package to a folder that a virtual machine boots from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.vm import initramfs
from tests.vm.errors import TrialError
from tests.vm.running import run
from tests.vm.sources import Suite

WANTED = re.compile(
    r"boot/vmlinuz-|lib/modules/[^/]+/(modules\.(order|builtin)"
    r"|kernel/(net|lib|crypto|drivers/(net/(veth|virtio_net|net_failover)\.|virtio)"
    r"|fs/(9p|fscache|netfs|overlayfs)))"
)
"""Of a kernel's 300 MB, what a machine of virtio devices needs to boot and to route."""
BUSYBOX = Path("/bin/busybox")
INIT = Path(__file__).with_name("init.sh")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: ``layer`` is laid over a root file system, for its modules."""

    release: str
    image: Path
    initramfs: Path
    layer: Path


def place_of(member: str) -> PurePosixPath | None:
    """Return where a file of the package goes, None for nowhere; modules under /usr, always."""
    path = PurePosixPath(member).relative_to(".").as_posix().removeprefix("usr/")
    if not WANTED.match(path):
        return None
    return PurePosixPath("usr", path) if path.startswith("lib/") else PurePosixPath(path)


def unpack(package: Path, folder: Path) -> None:
    """Unpack what is wanted of a kernel's package."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as popen:
        assert popen.stdout is not None
        with tarfile.open(fileobj=popen.stdout, mode="r|") as archive:
            for member in archive:
                place = place_of(member.name) if member.isfile() else None
                content = archive.extractfile(member) if place else None
                if place is None or content is None:
                    continue
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(content, file)
        popen.stdout.read()
    if popen.returncode != 0:
        raise TrialError(f"{package} cannot be unpacked")


def prepare(suite: Suite, cache: Path) -> Kernel:
    """Have the newest stock kernel of a suite, from the cache if it is there."""
    package = suite.newest_kernel()
    release = package.removeprefix("linux-image-")
    folder = cache / "kernels" / release
    if not folder.is_dir():
        file = suite.download(package, cache / "packages")
        fresh = folder.with_name(f"{release}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        unpack(file, fresh)
        run(["depmod", "--basedir", fresh / "usr", release], 120, env=os.environ)
        fresh.rename(folder)
        file.unlink()
    boot = cache / "kernels" / f"{release}.initramfs"
    modules = folder / "usr/lib/modules" / release
    boot.write_bytes(initramfs.build(modules, BUSYBOX, INIT))
    return Kernel(release, folder / "boot" / f"vmlinuz-{release}", boot, folder)
