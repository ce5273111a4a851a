"""The two ways to a checksum agree wherever both apply."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.model.checksum import adjusted_checksum, internet_checksum

WORDS = st.integers(0, 0xFFFF)


def test_the_example_of_rfc_1071_section_3() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_the_example_of_rfc_1624_section_4() -> None:
    assert adjusted_checksum(0xDD2F, 0x5555, 0x3285) == 0x0000


def test_an_odd_byte_is_padded_behind() -> None:
    assert internet_checksum(b"\x12\x34\x56") == internet_checksum(b"\x12\x34\x56\x00")


@given(words=st.lists(WORDS, min_size=9, max_size=9), changed=st.integers(0, 8), new=WORDS)
def test_adjusted_is_computed_anew(words: list[int], changed: int, new: int) -> None:
    words[0] |= 0x4500  # as in a header, the words are never all zero, before or after
    new |= 0x4500
    before = internet_checksum(struct.pack(">9H", *words))
    old, words[changed] = words[changed], new
    assert adjusted_checksum(before, old, new) == internet_checksum(struct.pack(">9H", *words))
