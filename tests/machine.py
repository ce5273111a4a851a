"""Probes of what this machine can do: every skip of a test comes from one of them.

A ``why_no_...`` returns None or one line of advice. Probes use no code of the project: code under
test must not decide that it is not tested.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import importlib
import inspect
import os
import shutil
import struct
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

_BPF_MAP_CREATE = 0
_BPF_PROG_LOAD = 5
_BPF_MAP_TYPE_ARRAY = 2
_BPF_MAP_TYPE_PROG_ARRAY = 3
_BPF_PROG_TYPE_XDP = 6
_BPF_XDP = 37  # the `expected_attach_type` that libbpf gives to XDP programs
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_BPF_HELPERS = Path("/usr/include/bpf/bpf_helpers.h")


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
    if os.uname().machine not in _SYS_BPF:
        return f"no BPF probe for {os.uname().machine}: add its system call number"
    try:
        os.close(_map_create(_BPF_MAP_TYPE_ARRAY))
    except OSError as error:
        return (
            f"cannot make a BPF map ({error.strerror}): needs Linux 5.10 or later, and in a "
            "container CAP_BPF and CAP_NET_ADMIN"
        )
    return None


def c_compiler() -> str:
    """Return the C compiler, empty if there is none."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")


@functools.cache
def why_no_c_compiler() -> str | None:
    """Whether a C compiler and the headers of libc and Linux are there."""
    source = "#include <stdlib.h>\n#include <linux/bpf.h>\nint main(void) { return 0; }\n"
    if c_compiler() and _compiles(source, c_compiler()):
        return None
    return "needs a C compiler: apt-get install gcc libc6-dev linux-libc-dev"


@functools.cache
def why_no_libfuzzer() -> str | None:
    """Whether clang is there with the libraries of libFuzzer and the sanitizers."""
    source = "int LLVMFuzzerTestOneInput(const char *at, long size) { return at && size && 0; }\n"
    if why_no_c_compiler() is None and _compiles(
        source, "clang", "-fsanitize=fuzzer,address,undefined"
    ):
        return None
    return "needs clang with libFuzzer: apt-get install clang libclang-rt-dev"


def _compiles(source: str, *command: str) -> bool:
    if not shutil.which(command[0]):
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "-x", "c", "-", "-o", f"{folder}/probe"],
            input=source,
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode == 0


@functools.cache
def xdp_attach_type_of_bcc() -> int:
    """Return the `expected_attach_type` of XDP programs that this bcc loads: 0 where it has none.

    It can give one if `BPF.load_func` has a parameter for it (bcc 0.26 has).
    """
    load_func = importlib.import_module("bcc").BPF.load_func
    return _BPF_XDP if "attach_type" in inspect.signature(load_func).parameters else 0


@functools.cache
def kernel_compares_attach_types() -> bool:
    """Whether a program array takes only programs with the attach type of its first (6.18 does)."""
    with ExitStack() as stack:
        array = _map_create(_BPF_MAP_TYPE_PROG_ARRAY)
        stack.callback(os.close, array)
        stack.callback(os.close, _load_jump(array, 0))
        try:
            os.close(_load_jump(array, _BPF_XDP))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return True
    return False


def why_no_libbpf_tools() -> str | None:
    """Whether libbpf's programs can be compiled and loaded, by its own tools."""
    if shutil.which("clang") and shutil.which("bpftool") and _BPF_HELPERS.exists():
        return None
    return "needs clang, bpftool and libbpf-dev: apt-get install clang bpftool libbpf-dev"


def why_no_libbpf_beside_bcc() -> str | None:
    """Whether XDP programs of libbpf and of this bcc can jump through one array."""
    if xdp_attach_type_of_bcc() == _BPF_XDP or not kernel_compares_attach_types():
        return None
    return "this bcc loads XDP programs without an attach type, and this kernel compares it"


def _map_create(map_type: int) -> int:
    # map_type, key_size, value_size, max_entries, map_flags
    return _bpf(_BPF_MAP_CREATE, struct.pack("=5I", map_type, 4, 4, 1, 0))


def _load_jump(array: int, attach_type: int) -> int:
    """Load an XDP program that jumps to slot 0 of an array, and else passes the packet."""
    code = b"".join(
        struct.pack("=BBhi", *fields)
        for fields in (
            (0x18, 0x12, 0, array),  # r2 = array, in two halves
            (0, 0, 0, 0),
            (0xB7, 3, 0, 0),  # r3 = 0
            (0x85, 0, 0, 12),  # call bpf_tail_call
            (0xB7, 0, 0, 2),  # r0 = XDP_PASS
            (0x95, 0, 0, 0),  # exit
        )
    )
    instructions, gpl = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags,
    # prog_name, prog_ifindex, expected_attach_type
    attribute = struct.pack(
        "=IIQQIIQII16sII",
        *(_BPF_PROG_TYPE_XDP, len(code) // 8),
        *(ctypes.addressof(instructions), ctypes.addressof(gpl)),
        *(0, 0, 0, 0, 0, b"lb_probe", 0, attach_type),
    )
    return _bpf(_BPF_PROG_LOAD, attribute)


def _bpf(command: int, attribute: bytes) -> int:
    """Call bpf(2), which returns a file descriptor for these commands."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attribute, len(attribute))
    while True:
        descriptor = int(libc.syscall(_SYS_BPF[os.uname().machine], command, buffer, len(buffer)))
        if descriptor >= 0:
            return descriptor
        # the verifier was interrupted by a signal
        if ctypes.get_errno() != errno.EAGAIN:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
