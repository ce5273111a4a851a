"""SipHash against its published vectors and against an implementation that nobody here wrote."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.model import siphash, siphash_1_3
from tests.packets.page import section, spelled_out, table_rows

ROWS = [row for row in table_rows(section(1), columns=4) if row[0][:2] in {"1-", "2-"}]
LENGTHS = [*range(1, 40), 63, 64, 65, 255, 256, 257, 1000]


def _input(text: str) -> bytes:
    text = text.partition("`")[0].strip()
    return b"" if text == "empty" else spelled_out(text)


def test_the_document_has_three_published_vectors() -> None:
    assert len(ROWS) == 3


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}, input {row[2]}" for row in ROWS])
def test_published_vector(row: tuple[str, ...]) -> None:
    variant, key, data, expected = row
    compression, finalization = (int(number) for number in variant[:3].split("-"))
    found = siphash(spelled_out(key), _input(data), compression, finalization)
    assert f"{found:016x}" == expected


def test_agrees_with_the_hash_of_bytes_in_python() -> None:
    if sys.hash_info.algorithm != "siphash13":
        pytest.skip(f"this interpreter hashes bytes with {sys.hash_info.algorithm}")
    if sys.hash_info.cutoff:
        pytest.skip("this interpreter hashes short bytes in another way")
    script = f"print(*(hash(bytes(i % 251 for i in range(n))) for n in {LENGTHS}))"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    theirs = [int(word) % 2**64 for word in done.stdout.split()]
    ours = [siphash_1_3(bytes(16), bytes(i % 251 for i in range(n))) for n in LENGTHS]
    assert ours == theirs


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        siphash_1_3(bytes(15), b"")
