"""What this machine can do for tests: each probe returns None, or one line of advice."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import subprocess

_BPF_MAP_CREATE = 0
_BPF_MAP_TYPE_ARRAY = 2
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}


@functools.cache
def why_no_root() -> str | None:
    """Whether we are root."""
    if os.geteuid() == 0:
        return None
    return "needs root: run make test as root, or as a user with sudo"


@functools.cache
def why_no_netns() -> str | None:
    """Whether network namespaces can be made, tried in a child process."""
    if reason := why_no_root():
        return reason
    try:
        child = subprocess.run(
            ["unshare", "--net", "ip", "link", "set", "lo", "up"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError as error:
        return f"needs unshare and ip ({error}): apt-get install util-linux iproute2"
    if child.returncode == 0:
        return None
    return (
        f"cannot make network namespaces ({child.stderr.strip()}): "
        "in a container, start it privileged"
    )


@functools.cache
def why_no_bpf() -> str | None:
    """Whether bcc is there and a BPF map can be made."""
    if reason := why_no_root():
        return reason
    try:
        importlib.import_module("bcc")
    except ImportError as error:
        return f"cannot import bcc ({error}): apt-get install python3-bpfcc, then make setup"
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        return f"no BPF probe for {os.uname().machine}: add its system call number"
    libc = ctypes.CDLL(None, use_errno=True)
    # union bpf_attr of BPF_MAP_CREATE: map_type, key_size, value_size, max_entries, map_flags
    attributes = (ctypes.c_uint32 * 5)(_BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0)
    descriptor = libc.syscall(
        number, _BPF_MAP_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    if descriptor < 0:
        return (
            f"cannot make a BPF map ({os.strerror(ctypes.get_errno())}): needs Linux 5.10 or "
            "later, and in a container CAP_BPF and CAP_NET_ADMIN"
        )
    os.close(descriptor)
    return None
