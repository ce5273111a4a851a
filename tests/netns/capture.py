"""Captures the packets of one interface, in both directions.

It uses a packet socket (packet(7)) with a filter that libpcap compiles (pcap-filter(7)). There is
no process to start or to wait for. The kernel stores the packets that match, up to a limit, and
counts those beyond the limit.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
import struct
from dataclasses import dataclass
from typing import Self

from netns.errors import NetworkError
from netns.host import Host
from netns.offload import switch_merging

ETHERNET_BYTES = 14
TAG_BYTES = 4
SNAP_BYTES = 512
"""Number of bytes that are stored of each packet by default."""
BUFFER_BYTES = 32 << 20
"""Size of the kernel's buffer: some 14,000 full-size packets."""

DLT_EN10MB = 1
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
ETH_P_ALL = 3
TP_STATUS_VLAN_VALID = 1 << 4
AUXDATA = struct.Struct("=IIIHHHH")
"""struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid."""
INSTRUCTION_BYTES = 8


@dataclass(frozen=True)
class Packet:
    """One frame: its length on the wire, its first bytes (a VLAN tag included), its direction."""

    length: int
    data: bytes
    outgoing: bool


def above_mtu(mtu: int) -> str:
    """A filter for frames that carry more than `mtu` bytes; a VLAN tag counts as payload."""
    return f"greater {mtu + ETHERNET_BYTES + 1}"


class Capture:
    """Packets of one interface that match a pcap filter; a context manager.

    GRO is off during the capture, so packets are as they were on the wire. Frames sent by XDP_TX
    are captured only at the other end of the link.
    """

    def __init__(
        self, host: Host, interface: str, expression: str = "", *, snap_bytes: int = SNAP_BYTES
    ) -> None:
        self._host = host
        self._interface = interface
        self._found: list[Packet] = []
        program = _compiled(expression, snap_bytes)
        self._snap_bytes = snap_bytes
        self._merged = host.call(switch_merging, interface, on=False)
        self._socket = host.call(_open, interface, program)

    def packets(self) -> list[Packet]:
        """Return all packets since the start.

        Raises:
            NetworkError: the kernel had to drop packets.

        """
        while True:
            try:
                data, ancillary, _flags, address = self._socket.recvmsg(self._snap_bytes, 64)
            except BlockingIOError:
                break
            outgoing = address[2] == socket.PACKET_OUTGOING
            self._found.append(_packet(data, ancillary[0][2], outgoing=outgoing))
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        _seen, lost = struct.unpack("=II", statistics)
        if lost:
            raise NetworkError(
                f"{lost} packets on {self._interface} of {self._host.name} did not fit the buffer: "
                "capture for a shorter time, or with a narrower filter"
            )
        return list(self._found)

    def close(self) -> None:
        """End the capture."""
        self._socket.close()
        self._host.call(switch_merging, self._interface, on=self._merged)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _packet(data: bytes, auxdata: bytes, *, outgoing: bool) -> Packet:
    status, length, _snap, _mac, _net, tci, protocol = AUXDATA.unpack(auxdata[: AUXDATA.size])
    if status & TP_STATUS_VLAN_VALID:
        # The kernel has removed the tag from the frame; on the wire it was there.
        data = data[:12] + struct.pack(">HH", protocol, tci) + data[12:]
        length += TAG_BYTES
    return Packet(length, data, outgoing)


def _open(interface: str, program: bytes) -> socket.socket:
    # Protocol 0 receives nothing: packets before the filter is attached would not be filtered.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        code = ctypes.create_string_buffer(program, len(program))
        filter_ = struct.pack("@HP", len(program) // INSTRUCTION_BYTES, ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
        sock.bind((interface, ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


def _compiled(expression: str, snap_bytes: int) -> bytes:
    """Compile a pcap filter for Ethernet frames to classic BPF instructions."""
    pcap = ctypes.CDLL(ctypes.util.find_library("pcap") or "libpcap.so.0.8")
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_geterr.restype = ctypes.c_char_p
    handle = ctypes.c_void_p(pcap.pcap_open_dead(DLT_EN10MB, snap_bytes))
    program = _Program()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0) != 0:
            why = pcap.pcap_geterr(handle).decode()
            raise NetworkError(f"capture filter {expression!r}: {why}")
        size = program.length * INSTRUCTION_BYTES
        instructions = ctypes.string_at(program.instructions, size)
        pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    return instructions
