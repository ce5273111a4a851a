"""Waits for notifications of route netlink, and for other threads."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
from contextlib import suppress
from enum import IntFlag
from typing import Self

from lb.agent.netlink.messages import Message, messages

BUFFER_BYTES = 1 << 20
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_RCVBUFFORCE = 26, 27, 33
FILTER = struct.Struct("@HP")
"""struct sock_fprog: number of instructions, and where they are."""
INSTRUCTION_BYTES = 8


class RTMGRP(IntFlag):
    """The groups of notifications (linux/rtnetlink.h)."""

    LINK = 0x1
    NEIGH = 0x4
    TC = 0x8
    IPV4_IFADDR = 0x10
    IPV4_ROUTE = 0x40
    IPV4_RULE = 0x80
    IPV6_IFADDR = 0x100
    IPV6_ROUTE = 0x400
    IPV6_RULE = 0x40000


class Watcher:
    """A context manager. Any thread may ``wake`` the one that is in it, at any time."""

    def __init__(self, groups: RTMGRP) -> None:
        self._groups = groups
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0.0)
        self._wake_write.settimeout(0.0)
        self._filter = b""

    def wake(self) -> None:
        """End a wait."""
        with suppress(BlockingIOError):  # full: it will wake anyway
            self._wake_write.send(b"x")

    def __enter__(self) -> Self:
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        with suppress(PermissionError):  # without CAP_NET_ADMIN the usual buffer has to do
            self._events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._events.settimeout(0.0)
        self._filter = b""
        self._events.bind((0, self._groups))
        self._poll = select.poll()
        self._poll.register(self._events, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def set_filter(self, program: bytes) -> None:
        """Have only what passes this program (`route_filter`) wake us up from now on.

        It only saves time: if the kernel refuses it, everything wakes us up.
        """
        if program == self._filter:
            return
        code = ctypes.create_string_buffer(program, len(program))
        count = len(program) // INSTRUCTION_BYTES
        packed = FILTER.pack(count, ctypes.addressof(code))
        try:
            self._events.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, packed)
        except OSError:  # no memory for it; the one before may be too narrow
            with suppress(OSError):
                self._events.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        self._filter = program

    def wait(self, seconds: float) -> bool:
        """Wait for a notification or for ``wake``; return whether there was one in time."""
        return bool(self._poll.poll(max(0.0, seconds) * 1000 + 1))

    def woken(self) -> bool:
        """Return whether ``wake`` was called since the last time."""
        try:
            return bool(self._wake_read.recv(4096))
        except BlockingIOError:
            return False

    def notifications(self) -> tuple[list[Message], bool]:
        """Return all notifications since the last time, and whether some were lost."""
        found: list[Message] = []
        lost = False
        while True:
            try:
                found += messages(self._events.recv(1 << 16))
            except BlockingIOError:
                return found, lost
            except OSError:  # ENOBUFS: more than the socket could hold
                lost = True
