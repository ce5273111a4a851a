"""From C sources to loaded programs and maps, by bcc.

Once everything is loaded bcc is released: file descriptors remain.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import inspect
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.kernel_headers import stand_in_headers

MINIMUM_KERNEL = (5, 10)


@dataclass(frozen=True)
class Loaded:
    """File descriptors of programs and maps by their names in C; the owner closes them."""

    programs: Mapping[str, int]
    maps: Mapping[str, int]

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)


def check_kernel() -> None:
    """Check that programs can be loaded at all, before a compiler is started.

    Raises:
        DataplaneError: not permitted, or the kernel is too old or without BPF.

    """
    release = os.uname().release
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers and tuple(map(int, numbers.groups())) < MINIMUM_KERNEL:
        raise DataplaneError(f"Linux {release} is too old: 5.10 or later is needed")
    # kernels before 5.11 count maps as locked memory; the map below shows whether they fit
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    try:
        os.close(bpf_syscall.map_create(bpf_syscall.MAP_TYPE_ARRAY, 4, 8, 1, name="lb_probe"))
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EACCES}:
            raise DataplaneError("BPF is not permitted: run as root (sudo)") from error
        raise DataplaneError(
            f"this kernel refuses BPF maps ({error.strerror}): CONFIG_BPF_SYSCALL is needed"
        ) from error


def import_bcc() -> Any:
    """Import bcc, which comes from the distribution.

    Raises:
        DataplaneError: it is not there.

    """
    try:
        import bcc  # noqa: PLC0415
    except ImportError as error:
        raise DataplaneError(
            "bcc's Python module is missing: apt-get install python3-bpfcc, and use a virtual "
            "environment of /usr/bin/python3 with --system-site-packages (make setup makes one)"
        ) from error
    return bcc


def xdp_attach_types(wanted: int) -> tuple[int, ...]:
    """Return which `expected_attach_type` XDP programs can have here, the wanted one first.

    A bcc whose `load_func` has no parameter for it loads them with 0.

    Raises:
        DataplaneError: bcc is missing.

    """
    supported = "attach_type" in inspect.signature(import_bcc().BPF.load_func).parameters
    return (wanted, 0) if wanted and supported else (0,)


def join_sources(paths: Sequence[Path], *, behind: str = "") -> str:
    """Join C files into one source whose errors name the right file and line."""
    parts = [f'#line 1 "{path.name}"\n{path.read_text(encoding="ascii")}' for path in paths]
    return "".join(parts) + (f'#line 1 "behind"\n{behind}' if behind else "")


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Collect the standard error of C libraries while the block runs."""
    lines: list[str] = []
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def _essence(lines: Sequence[str]) -> str:
    """Return the line with the cause, among the many that a compiler writes."""
    for pattern in ("error:", "ermission denied", "not permitted", "nvalid"):
        for line in lines:
            if pattern in line:
                return line.strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def _own(fd: int) -> int:
    return int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))


def _table_fd(bcc: Any, module: Any, name: str) -> int:
    fd = int(bcc.lib.bpf_table_fd(ctypes.c_void_p(module.module), name.encode()))
    if fd < 0:
        raise DataplaneError(f"the sources define no map {name}")
    return fd


def _load_all(
    bcc: Any,
    module: Any,
    programs: Mapping[str, str],
    maps: Sequence[str],
    xdp_attach_type: int,
) -> Loaded:
    """Load the programs of a compiled module and take descriptors of our own."""
    owned: dict[str, int] = {}
    try:
        for name, kind in programs.items():
            options = {"attach_type": xdp_attach_type} if kind == "XDP" and xdp_attach_type else {}
            function = module.load_func(name.encode(), getattr(bcc.BPF, kind), **options)
            owned[name] = _own(function.fd)
        for name in maps:
            owned[name] = _own(_table_fd(bcc, module, name))
    except BaseException:
        for fd in owned.values():
            os.close(fd)
        raise
    return Loaded(
        programs={name: owned[name] for name in programs}, maps={name: owned[name] for name in maps}
    )


def compile_and_load(
    source: str,
    *,
    include: Path,
    programs: Mapping[str, str],
    maps: Sequence[str],
    defines: Mapping[str, int] | None = None,
    instead: Mapping[str, int] | None = None,
    xdp_attach_type: int = 0,
) -> Loaded:
    """Compile one C source and load its programs.

    `programs` maps a function's name to its kind in bcc: "XDP" or "SCHED_CLS". `defines` are
    macros with numbers. `instead` are descriptors of existing maps, to use in place of those that
    the source defines. `xdp_attach_type` is one of `xdp_attach_types`: programs that call each
    other must have the same.

    Raises:
        DataplaneError: bcc is missing, BPF not permitted, or the sources are refused.

    """
    check_kernel()
    bcc = import_bcc()
    # without debug information, which takes a third of the compiler's time
    flags = ["-DLB_IN_KERNEL", "-g0", f"-I{include}"]
    flags += [f"-D{name}={number}" for name, number in (defines or {}).items()]
    module = None
    try:
        with stand_in_headers(), _captured_stderr() as lines:
            module = bcc.BPF(text=source.encode("ascii"), cflags=flags)
            for name, fd in (instead or {}).items():
                # compiled programs refer to maps by descriptor: it gets another map
                os.dup2(fd, _table_fd(bcc, module, name), inheritable=False)
            return _load_all(bcc, module, programs, maps, xdp_attach_type)
    except DataplaneError:
        raise
    except Exception as error:
        summary = _essence(lines) if lines else str(error)
        raise DataplaneError(f"the programs do not load: {summary}") from error
    finally:
        if module is not None:
            module.cleanup()
