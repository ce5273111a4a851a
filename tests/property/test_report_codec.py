"""Reports: what an agent encodes arrives, and any bytes are decoded or refused."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.objects import PathReport, Report, ServiceHealth, Strays
from controlplane.store.contract import StoreCorrupt
from controlplane.store.reports import MAX_TEXT, decode_report, encode_report

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
TAME = st.text(
    st.characters(categories=["L", "N", "P"]), max_size=MAX_TEXT
)  # what needs no cleaning
COUNTS = st.integers(0, (1 << 63) - 1)
NUMBERS = st.floats(0, 1e12)
REPORTS = st.builds(
    Report,
    server=NAMES,
    boot_id=TAME,
    sequence=COUNTS,
    sent_at=NUMBERS,
    ready=st.booleans(),
    stopped=st.booleans(),
    detached=st.booleans(),
    load=st.none() | NUMBERS,
    connections=COUNTS,
    checks=st.dictionaries(NAMES, st.builds(ServiceHealth, st.booleans(), TAME), max_size=5),
    version=TAME,
    xdp_mode=TAME,
    errors=st.lists(TAME, max_size=16).map(tuple),
    paths=st.none()
    | st.builds(
        PathReport,
        COUNTS,
        st.lists(NAMES, max_size=4).map(tuple),
        st.lists(NAMES, max_size=4).map(tuple),
    ),
    missing=st.lists(NAMES, max_size=32).map(tuple),
    strays=st.lists(st.builds(Strays, NAMES, NAMES, COUNTS), max_size=64).map(tuple),
    presence=st.none() | st.dictionaries(st.text(), COUNTS | TAME, max_size=3),
    flows=st.none() | st.dictionaries(st.text(), COUNTS | TAME, max_size=3),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = list(json.loads(encode_report(Report("alpha", "b", 1, 0.0))))


def read(data: bytes) -> Report | None:
    """Return the report, None if it was refused in one line that is safe to print."""
    refusal = ""
    try:
        return decode_report(data)
    except StoreCorrupt as error:
        refusal = str(error)
    assert refusal.isprintable()
    return None


@given(REPORTS)
def test_every_report_arrives_as_it_was(report: Report) -> None:
    assert decode_report(encode_report(report)) == report


@given(st.text(max_size=400), st.lists(st.text(max_size=400), max_size=20))
def test_every_text_arrives_tame(text: str, errors: list[str]) -> None:
    report = decode_report(encode_report(Report("a", text, 1, 0.0, errors=tuple(errors))))
    for sent in (report.boot_id, *report.errors):
        assert sent.isprintable()
        assert len(sent) <= MAX_TEXT


@given(st.binary(max_size=300) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_strange_bytes_are_refused(data: bytes) -> None:
    read(data)


@given(st.dictionaries(st.sampled_from(KEYS), ANY_JSON))
def test_strange_values_are_refused_or_harmless(changes: dict[str, object]) -> None:
    good = json.loads(encode_report(Report("alpha", "b", 1, 0.0)))
    report = read(json.dumps({**good, **changes}).encode())
    assert report is None or decode_report(encode_report(report)) == report
