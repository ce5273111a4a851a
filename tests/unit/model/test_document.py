"""The model's names are those of the document, all of them and no others."""

from __future__ import annotations

from tests.model import FORWARDER_COUNTERS, KERNEL_COUNTERS, REDIRECTOR_COUNTERS
from tests.unit.model.wire_document import checks, counter_names


def test_the_forwarders_counters() -> None:
    assert counter_names(4) == FORWARDER_COUNTERS


def test_the_redirectors_counters() -> None:
    assert counter_names(6) == REDIRECTOR_COUNTERS


def test_the_counters_of_no_line_are_those_of_the_kernel_and_of_ecn() -> None:
    named = {check.counter for number in (4, 6) for check in checks(number).values()}
    assert (FORWARDER_COUNTERS | REDIRECTOR_COUNTERS) - named == KERNEL_COUNTERS | {"drop_ecn"}


def test_the_lines_are_numbered_without_gaps() -> None:
    assert list(checks(4)) == [f"F{number}" for number in range(1, 23)]
    assert list(checks(6)) == [f"R{number}" for number in range(1, 23)]
