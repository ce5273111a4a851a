"""The model's names are those of the document, all of them and no others."""

from __future__ import annotations

from tests.model import FORWARDER_COUNTERS, KERNEL_COUNTERS, REDIRECTOR_COUNTERS
from tests.packets.page import IN_WORDS, checks, counter_names, verdict_of


def test_the_forwarders_counters() -> None:
    assert counter_names(4) == FORWARDER_COUNTERS


def test_the_redirectors_counters() -> None:
    assert counter_names(6) == REDIRECTOR_COUNTERS


def test_the_counters_of_no_line_are_those_of_the_kernel_and_of_what_sections_say() -> None:
    named = {end.counter for number in (4, 6) for ends in checks(number).values() for end in ends}
    assert (FORWARDER_COUNTERS | REDIRECTOR_COUNTERS) - named == KERNEL_COUNTERS | IN_WORDS


def test_the_lines_are_numbered_without_gaps() -> None:
    fs, is_ = [*range(1, 14), "13b", *range(14, 23)], [1, "1b", *range(2, 10)]
    assert list(checks(4)) == [f"F{number}" for number in fs] + [f"I{number}" for number in is_]
    rs, js = range(1, 26), range(1, 6)
    assert list(checks(6)) == [f"R{number}" for number in rs] + [f"J{number}" for number in js]


def test_the_lines_that_point_to_a_section() -> None:
    lines = {**checks(4), **checks(6)}
    assert {line for line, ends in lines.items() if not ends} == {"F8", "F9", "R15"}


def test_a_counter_has_one_verdict_in_whatever_line() -> None:
    for counter in (FORWARDER_COUNTERS | REDIRECTOR_COUNTERS) - KERNEL_COUNTERS:
        word = counter.split("_")[0]
        wanted = "redirect" if counter == "pass_on" else {"accept": "ok"}.get(word, word)
        assert verdict_of(counter) == wanted
