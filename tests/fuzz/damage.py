"""One thing wrong with a frame that was right: at most one field is touched at a time."""

from __future__ import annotations

import random
from collections.abc import Callable

TAGS = (b"\x81\x00", b"\x88\xa8")
LEAST = 14
HEADERS = 150
"""Behind so many bytes nothing is looked at in most frames."""


def l3_of(frame: bytes) -> int:
    """Where the IP header begins, behind any number of tags."""
    at = 14
    while frame[at - 2 : at] in TAGS:
        at += 4
    return at


def put(frame: bytes, at: int, value: bytes) -> bytes:
    """The frame with other bytes at a place; unchanged if it ends before."""
    if at + len(value) > len(frame):
        return frame
    return frame[:at] + value + frame[at + len(value) :]


def _flip_bits(rng: random.Random, frame: bytes) -> bytes:
    damaged = bytearray(frame)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(min(len(damaged), HEADERS))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _set_byte(rng: random.Random, frame: bytes) -> bytes:
    value = rng.choice((0, 1, 4, 5, 6, 0x45, 0x46, 0x60, 0x7F, 0xFF))
    return put(frame, rng.randrange(12, min(len(frame), HEADERS)), bytes([value]))


def _truncate(rng: random.Random, frame: bytes) -> bytes:
    return frame[: rng.randrange(LEAST, min(len(frame), HEADERS) + 1)]


def _pad(rng: random.Random, frame: bytes) -> bytes:
    return frame + rng.randbytes(rng.randrange(1, 60))


def _lie_about_length(rng: random.Random, frame: bytes) -> bytes:
    at = l3_of(frame)
    at += 4 if frame[at : at + 1] >= b"\x60" else 2
    if rng.random() < 0.3:
        length = rng.choice((0, 1, 19, 20, 27, 28, 39, 40, 65495, 65496, 65535))
    else:
        length = int.from_bytes(frame[at : at + 2], "big")
        length += rng.choice((-100, -20, -8, -1, 1, 8, 20, 100))
    return put(frame, at, (length & 0xFFFF).to_bytes(2, "big"))


def _other_type(rng: random.Random, frame: bytes) -> bytes:
    kind = rng.choice((0x8100, 0x88A8, 0x86DD, 0x0800, 0x0806, 0x9100, 0x0000, 0x05DC, 0x0801))
    return put(frame, rng.choice((12, l3_of(frame) - 2)), kind.to_bytes(2, "big"))


def _fragment_word(rng: random.Random, frame: bytes) -> bytes:
    word = rng.choice((0x2000, 0x1FFF, 0x0001, 0x6000, 0x8000, 0xC000, 0x3FFF))
    return put(frame, l3_of(frame) + 6, word.to_bytes(2, "big"))


def _version_or_ihl(rng: random.Random, frame: bytes) -> bytes:
    first = rng.choice((0x40, 0x44, 0x45, 0x46, 0x4F, 0x55, 0x65, 0x60, 0x50))
    return put(frame, l3_of(frame), bytes([first]))


def _protocol(rng: random.Random, frame: bytes) -> bytes:
    at = l3_of(frame)
    at += 6 if frame[at : at + 1] >= b"\x60" else 9
    return put(frame, at, bytes([rng.choice((0, 1, 4, 6, 17, 41, 43, 44, 51, 58, 59, 60, 255))]))


def _checksum(rng: random.Random, frame: bytes) -> bytes:
    return put(frame, l3_of(frame) + 10, rng.choice((b"\0\0", b"\xff\xff", rng.randbytes(2))))


DAMAGE: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip_bits, _set_byte, _truncate, _pad, _lie_about_length, _lie_about_length),
    *(_other_type, _fragment_word, _version_or_ihl, _protocol, _checksum),
)


def damaged(rng: random.Random, frame: bytes, share: float) -> bytes:
    """Perhaps something wrong with a frame, in one of four cases two things."""
    while rng.random() < share and len(frame) > LEAST:
        frame = rng.choice(DAMAGE)(rng, frame)
        share /= 4
    return frame


def sweep(frame: bytes) -> list[bytes]:
    """A frame cut at every offset behind its Ethernet header, up to the end of all headers."""
    return [frame[:end] for end in range(LEAST, min(len(frame), HEADERS))]
