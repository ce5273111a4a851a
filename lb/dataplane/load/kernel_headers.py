"""The kernel headers that bcc needs, without kernel headers.

bcc compiles against the headers of the running kernel. These are often not installed, and the
programs do not need them: they use the stable user-space interface only. bcc takes the tree that
BCC_KERNEL_SOURCE names, so this module makes one of four small files and two links to the headers
of linux-libc-dev. The compilation is the same on every kernel.
"""

from __future__ import annotations

import os
import platform
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lb.dataplane.errors import DataplaneError

VARIABLE = "BCC_KERNEL_SOURCE"
SYSTEM_HEADERS = Path("/usr/include")
ARCH_FOLDERS = {"x86_64": "x86", "aarch64": "arm64"}

# bcc brings its own linux/bpf.h, under this guard
KCONFIG = "#define CONFIG_BPF_SYSCALL 1\n#define __LINUX_BPF_H__\n"

TYPES = """\
#ifndef LB_LINUX_TYPES_H
#define LB_LINUX_TYPES_H
#include <asm/types.h>
#include <linux/posix_types.h>
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef __u16 __le16; typedef __u16 __be16; typedef __u32 __le32; typedef __u32 __be32;
typedef __u64 __le64; typedef __u64 __be64; typedef __u16 __sum16; typedef __u32 __wsum;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
typedef unsigned long size_t; typedef unsigned long uintptr_t; typedef _Bool bool;
#define true 1
#define false 0
#endif
"""

FILES = {
    "include/linux/kconfig.h": KCONFIG,
    "include/linux/types.h": TYPES,
    "include/linux/log2.h": "",
    "include/asm/page.h": "",
}


def arch_headers() -> Path:
    """Return the folder that holds this machine's asm/types.h.

    Raises:
        DataplaneError: linux-libc-dev is not installed.

    """
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    for folder in (SYSTEM_HEADERS / triplet, SYSTEM_HEADERS):
        if (folder / "asm" / "types.h").is_file() and (
            SYSTEM_HEADERS / "linux" / "bpf.h"
        ).is_file():
            return folder
    raise DataplaneError(
        "the headers <linux/bpf.h> and <asm/types.h> are missing: apt-get install linux-libc-dev"
    )


def write_tree(root: Path) -> None:
    """Make the tree under an empty folder."""
    arch = arch_headers()
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    (root / "include" / "uapi").symlink_to(SYSTEM_HEADERS)
    uapi = root / "arch" / ARCH_FOLDERS.get(platform.machine(), "x86") / "include" / "uapi"
    uapi.parent.mkdir(parents=True)
    uapi.symlink_to(arch)


@contextmanager
def stand_in_headers() -> Iterator[None]:
    """Point bcc at a stand-in tree while the block runs; then remove it."""
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="bucket-brigade-headers-") as folder:
        write_tree(Path(folder))
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
