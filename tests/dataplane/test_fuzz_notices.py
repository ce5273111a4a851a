"""That fuzzing finds what is wrong: wrong programs, a wrong model, counters that lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from lb.dataplane import dataplane
from lb.dataplane.maps import grace
from lb.paths import bpf_dir
from tests.fuzz import judge
from tests.fuzz.campaign import FORWARDER, REDIRECTOR, Findings, Fuzzer
from tests.fuzz.kernel import PerCpuArray
from tests.fuzz.sockets import ServerSockets
from tests.model import Result, SocketState, forward, redirect

SEED = 1
ROUNDS = 4
PACKETS = 1000
T = TypeVar("T")


class OwnThread:
    """Runs functions in one thread: a fuzzer moves its thread into another network namespace."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        # answers are limited by CPU, and the model has one
        self.run(lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}))

    def run(self, function: Callable[[], T]) -> T:
        return self._pool.submit(function).result(timeout=100)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="module")
def thread() -> Iterator[OwnThread]:
    made = OwnThread()
    yield made
    made.close()


@pytest.fixture(scope="module")
def fuzzer(thread: OwnThread) -> Iterator[Fuzzer]:
    made = thread.run(lambda: Fuzzer(SEED))
    yield made
    thread.run(made.close)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.0)


def findings_of(thread: OwnThread, fuzzer: Fuzzer) -> Findings:
    """What some rounds find, up to the first difference."""
    findings = Findings()
    for number in range(ROUNDS):
        found = thread.run(lambda number=number: fuzzer.round(number, PACKETS))  # type: ignore[misc]
        findings.add(found)
        if findings.differences:
            break
    return findings


def test_right_programs_and_the_right_model_agree(thread: OwnThread, fuzzer: Fuzzer) -> None:
    findings = findings_of(thread, fuzzer)
    assert not findings.differences, str(findings.differences[0])
    assert findings.packets == ROUNDS * PACKETS


def last_bit_flipped(result: Result) -> Result:
    if result.frame is None:
        return result
    return replace(result, frame=result.frame[:-1] + bytes([result.frame[-1] ^ 1]))


def other_service(result: Result) -> Result:
    return result if result.service is None else replace(result, service=result.service ^ 1)


def ecn_lost(result: Result) -> Result:
    return Result("ok", "accept_last_hop", b"") if result.counter == "drop_ecn" else result


@pytest.mark.parametrize("wrong", [last_bit_flipped, other_service], ids=lambda w: w.__name__)
def test_a_wrong_model_of_the_forwarder(
    thread: OwnThread,
    fuzzer: Fuzzer,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[Result], Result],
) -> None:
    monkeypatch.setattr(judge, "forward", lambda *known: wrong(forward(*known)))
    assert FORWARDER in {found.program for found in findings_of(thread, fuzzer).differences}


@pytest.mark.parametrize("wrong", [last_bit_flipped, ecn_lost], ids=lambda w: w.__name__)
def test_a_wrong_model_of_the_redirector(
    thread: OwnThread,
    fuzzer: Fuzzer,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[Result], Result],
) -> None:
    monkeypatch.setattr(judge, "redirect", lambda *known: wrong(redirect(*known)))
    assert REDIRECTOR in {found.program for found in findings_of(thread, fuzzer).differences}


def test_sockets_that_the_model_does_not_know_of(
    thread: OwnThread, fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServerSockets, "lookup", lambda *_: SocketState.NONE)
    (difference,) = findings_of(thread, fuzzer).differences
    assert "accept" in difference.got
    assert "accept" not in difference.wanted


def test_a_counter_that_grows_twice(
    thread: OwnThread, fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    growth = PerCpuArray.growth

    def twice(array: PerCpuArray) -> dict[int, list[int]]:
        return {index: [2 * number for number in by] for index, by in growth(array).items()}

    monkeypatch.setattr(PerCpuArray, "growth", twice)
    differences = findings_of(thread, fuzzer).differences
    assert {found.wanted for found in differences} == {"one counter by one"}


WRONG_C = [
    ("encap.h", "#define LB_OUTER_TTL 64", "#define LB_OUTER_TTL 63", FORWARDER),
    ("headers.h", "#define LB_MAX_EXT	    6", "#define LB_MAX_EXT	    5", REDIRECTOR),
    ("ecn.h", "if (outer == LB_ECN_ECT1 && inner == LB_ECN_ECT0)", "if (0)", REDIRECTOR),
]


@pytest.mark.slow
def test_wrong_programs(thread: OwnThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, right, wrong, program in WRONG_C:
        broken = tmp_path / file
        shutil.copytree(bpf_dir(), broken)
        text = (broken / file).read_text(encoding="ascii")
        assert right in text
        (broken / file).write_text(text.replace(right, wrong), encoding="ascii")
        monkeypatch.setattr(dataplane, "bpf_dir", lambda broken=broken: broken)
        fuzzer = thread.run(lambda: Fuzzer(SEED))
        try:
            found = {found.program for found in findings_of(thread, fuzzer).differences}
        finally:
            thread.run(fuzzer.close)
        assert program in found, f"{wrong} in {file} went unnoticed"
