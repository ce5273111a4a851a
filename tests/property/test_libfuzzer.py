"""The programs' code under libFuzzer and sanitizers, for a moment (`make libfuzzer`: longer)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from lb.paths import bpf_dir
from tests import machine
from tests.fuzz import host_build, libfuzzer
from tests.needed import missing

SECONDS = 4
LEAST_INPUTS = 10_000
LEAST_FEATURES = 500


@pytest.fixture(autouse=True, scope="module")
def _libfuzzer_is_here() -> None:
    if reason := machine.why_no_libfuzzer():
        missing(reason)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_sanitizer_finds_anything(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(31)
    print(f"seed {seed}")
    outcome = libfuzzer.fuzz(tmp_path, tmp_path, SECONDS, seed, jobs=1)
    assert not outcome.findings, outcome.findings[0][-4000:]
    assert outcome.inputs > LEAST_INPUTS
    assert outcome.features > LEAST_FEATURES


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_byte_too_far_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bpf"
    shutil.copytree(bpf_dir(), broken)
    headers = broken / "headers.h"
    text = headers.read_text(encoding="ascii")
    right = "offset + length > ip_len || at + length > end"
    assert right in text
    headers.write_text(text.replace(right, "at + length > end + 1"), encoding="ascii")
    monkeypatch.setattr(host_build, "bpf_dir", lambda: broken)
    outcome = libfuzzer.fuzz(tmp_path, tmp_path, SECONDS, 1, jobs=1)
    assert outcome.findings
    assert "AddressSanitizer" in outcome.findings[0]
