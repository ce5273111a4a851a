"""Flows in a report: they come back as they were, and anything else is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.documents.fields import DocumentError
from controlplane.documents.flows import (
    MOST_COUNTS,
    MOST_HELD,
    MOST_ORPHANS,
    ReportedFlows,
    decode_flows,
    encode_flows,
)
from controlplane.domain.objects import AskedFlow, FlowName

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
FLOWS = st.builds(FlowName, NAMES, st.integers(0, (1 << 64) - 1))
GOOD = ["web", "0123456789abcdef"]


@given(
    st.lists(FLOWS, max_size=MOST_ORPHANS),
    st.lists(FLOWS, max_size=MOST_HELD),
    st.dictionaries(st.tuples(NAMES, NAMES), st.integers(1, 1 << 62), max_size=4),
)
def test_they_come_back_as_they_were(
    orphans: list[FlowName], held: list[FlowName], counts: dict[tuple[str, str], int]
) -> None:
    flows = ReportedFlows(tuple(orphans), tuple(held), counts)
    assert decode_flows(json.loads(json.dumps(encode_flows(flows)))) == flows


def test_nothing_is_no_body() -> None:
    assert encode_flows(ReportedFlows(counts={("web", "rest"): 0})) is None
    assert decode_flows(None) == ReportedFlows()


def test_no_more_than_so_many_are_encoded() -> None:
    names = tuple(FlowName("web", number) for number in range(500))
    found = decode_flows(encode_flows(ReportedFlows(names, names)))
    assert (len(found.orphans), len(found.held)) == (MOST_ORPHANS, MOST_HELD)


def test_unknown_keys_are_skipped() -> None:
    assert decode_flows({"orphans": [GOOD], "new": 1}).orphans == (
        FlowName("web", 0x0123456789ABCDEF),
    )


@pytest.mark.parametrize(
    "content",
    [
        *(3, "x", []),
        {"orphans": {}},
        {"orphans": [GOOD] * (MOST_ORPHANS + 1)},
        {"held": [GOOD] * (MOST_HELD + 1)},
        {"held": [["web"]]},
        {"held": ["web"]},
        {"held": [["web", 5]]},
        {"held": [["web", "0123456789abcde"]]},
        {"held": [["web", "0123456789abcdeF"]]},
        {"held": [["../web", "0123456789abcdef"]]},
        {"held": [[None, "0123456789abcdef"]]},
        {"counts": [["web", "rest", 1]] * (MOST_COUNTS + 1)},
        {"counts": [["web", "rest"]]},
        {"counts": [["web", "rest", -1]]},
        {"counts": [["web", "rest", True]]},
        {"counts": [["web", "rest", 1 << 64]]},
    ],
)
def test_what_is_none_is_refused(content: object) -> None:
    with pytest.raises(DocumentError):
        decode_flows(content)


def test_servers_are_asked_for_a_part_of_the_hash() -> None:
    assert FlowName("web", 0xFEDCBA9876543210).asked == AskedFlow("web", 0xFEDCBA9876)
