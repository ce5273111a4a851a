"""What a server remembers between packets: fragments, decisions, how often it answered."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.model.addresses import Address
from tests.model.flow import Flow
from tests.model.packet import IpPacket

MOST_REMEMBERED = 8192

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class FragmentKey:
    """What all fragments of one datagram share (wire.md, section 4.4)."""

    source: Address
    destination: Address
    identification: int
    protocol: int

    @classmethod
    def of(cls, packet: IpPacket) -> FragmentKey:
        """The key of a first or later fragment; ``ValueError`` for a whole packet."""
        if packet.fragment is None:
            raise ValueError("a whole packet has no fragment key")
        return cls(
            packet.source,
            packet.destination,
            packet.fragment.identification,
            packet.fragment.protocol,
        )


@dataclass(frozen=True)
class UpperLayer:
    """What the forwarder remembers of a first fragment (wire.md, section 4.4)."""

    protocol: int
    source_port: int
    destination_port: int


class Remembered(Generic[Key, Value]):
    """At most ``most`` values by key; beyond that the one unused for longest goes.

    Asking for a value and writing it are uses. A kernel's LRU map evicts in batches and nearly, not
    exactly, the oldest: with fewer than ``most`` keys in play the two agree, beyond that they need
    not.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def recall(self, key: Key) -> Value | None:
        """The value under this key, or None."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def remember(self, key: Key, value: Value) -> None:
        """Write a value in the place of an older one under the same key."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def forget(self) -> None:
        """Remember nothing any more."""
        self._values.clear()


@dataclass
class Memory:
    """One server's memory; ``forward`` and ``redirect`` change it.

    ``fragments`` is the forwarder's (wire.md, section 4.4), ``decisions`` the redirector's (section
    6.2; a value is the name of an accept counter, or ``pass_on``), ``fresh`` are the UDP flows of
    section 6.4, ``openings`` the sequence numbers of the SYNs of section 6.5. ``answers_left`` are
    the too-big answers that section 4.5 still allows this CPU in the current window; None: any
    number. Time does not pass here: a caller that models windows sets the number anew, one that
    models more than 5 seconds forgets ``fresh`` flows, and one that models more than 64 seconds
    forgets ``openings``.
    """

    fragments: Remembered[FragmentKey, UpperLayer] = field(default_factory=Remembered)
    decisions: Remembered[FragmentKey, str] = field(default_factory=Remembered)
    fresh: Remembered[Flow, bool] = field(default_factory=Remembered)
    openings: Remembered[Flow, int] = field(default_factory=Remembered)
    answers_left: int | None = None

    def may_answer(self) -> bool:
        """Take one of the answers that are left, if there is one."""
        if self.answers_left is None:
            return True
        if self.answers_left == 0:
            return False
        self.answers_left -= 1
        return True
