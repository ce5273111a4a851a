"""The codec of reports: strict in types, tolerant of what is new, tame on a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.domain.bounds import MAX_CHECKED_SERVICES
from controlplane.domain.objects import PathReport, Report, ServiceHealth, Strays
from controlplane.store.contract import StoreCorrupt
from controlplane.store.reports import (
    MAX_ERRORS,
    MAX_PATHS,
    MAX_REPORT_BYTES,
    MAX_TEXT,
    decode_report,
    encode_report,
)

GOOD: dict[str, Any] = {
    "server": "alpha",
    "boot_id": "b",
    "sequence": 3,
    "sent_at": 1.5,
    "ready": True,
    "stopped": False,
    "load": 0.5,
    "connections": 2,
    "checks": {"web": {"healthy": False, "reason": "HTTP 500"}},
    "version": "1",
    "xdp_mode": "native",
    "errors": ["one"],
    "refused_cluster": 8,
    "detached": True,
    "paths": {"probed": 3, "lost": ["beta"], "unknown": ["gamma", "delta"]},
    "missing": ["forwarder"],
    "leaving": True,
    "strays": [{"pool": "web", "cause": "forced", "count": 3}],
    "presence": {"number": 1, "pools": {}},
    "flows": {"held": [["web", "0123456789abcdef"]]},
    "dip": "10.0.0.1",
    "machine": "7d1b",
}


def decoded(**changes: Any) -> Report:
    return decode_report(json.dumps({**GOOD, **changes}).encode())


def test_a_report_is_what_it_says() -> None:
    checks = {"web": ServiceHealth(healthy=False, reason="HTTP 500")}
    paths = PathReport(3, ("beta",), ("gamma", "delta"))
    expected = Report(
        *("alpha", "b", 3, 1.5, True, False, 0.5, 2, checks, "1", "native", ("one",), 8, True),
        paths,
        missing=("forwarder",),
        leaving=True,
        strays=(Strays("web", "forced", 3),),
        presence={"number": 1, "pools": {}},
        flows={"held": [["web", "0123456789abcdef"]]},
        dip="10.0.0.1",
        machine="7d1b",
    )
    assert decoded() == expected
    assert decode_report(encode_report(expected)) == expected
    assert json.loads(encode_report(expected)) == GOOD


def test_unknown_keys_are_skipped_and_missing_ones_have_defaults() -> None:
    assert decoded(invented={"later": 1}) == decoded()
    assert decode_report(b'{"server": "alpha"}') == Report("alpha", "", 0, 0.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server", None),
        ("server", 7),
        ("server", "../up"),
        ("boot_id", 7),
        ("sequence", -1),
        ("sequence", 1.0),
        ("sequence", True),
        ("sequence", "1"),
        ("sequence", 1 << 63),
        ("sent_at", "now"),
        ("sent_at", None),
        ("sent_at", -1),
        ("ready", 1),
        ("missing", "forwarder"),
        ("missing", ["../up"]),
        ("missing", [7]),
        ("missing", ["part"] * 33),
        ("ready", None),
        ("stopped", "no"),
        ("detached", 0),
        ("load", -0.1),
        ("load", True),
        ("load", float("nan")),
        ("load", float("inf")),
        ("load", 10**400),
        ("connections", 1.5),
        ("checks", []),
        ("checks", {"web": True}),
        ("checks", {"healthy": 1}),
        ("errors", "one"),
        ("errors", [1]),
        ("version", []),
        ("xdp_mode", {}),
        ("refused_cluster", -1),
        ("refused_cluster", True),
        ("strays", {}),
        ("strays", [7]),
        ("strays", [{"pool": "web"}]),
        ("strays", [{"pool": "web", "cause": "../up", "count": 1}]),
        ("strays", [{"pool": "web", "cause": "forced", "count": -1}]),
        ("strays", [{"pool": "web", "cause": "forced", "count": 1}] * 65),
        ("paths", []),
        ("paths", 7),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(StoreCorrupt, match=key.rstrip("s")):
        decoded(**{key: value})


@pytest.mark.parametrize(("key", "value"), [("healthy", "yes"), ("reason", 500)])
def test_a_wrong_value_of_a_check_is_refused(key: str, value: object) -> None:
    with pytest.raises(StoreCorrupt, match=key):
        decoded(checks={"web": {"healthy": True, key: value}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("probed", -1),
        ("probed", "3"),
        ("lost", "beta"),
        ("lost", None),
        ("lost", [7]),
        ("lost", ["../up"]),
        ("unknown", {}),
        ("unknown", ["x" * 64]),
        ("lost", ["s"] * (MAX_PATHS + 1)),
    ],
)
def test_a_wrong_value_of_the_paths_is_refused(key: str, value: object) -> None:
    with pytest.raises(StoreCorrupt, match=key):
        decoded(paths={**GOOD["paths"], key: value})


def test_an_agent_that_does_not_probe_has_no_paths() -> None:
    assert decoded(paths=None).paths is None
    assert decoded(paths={}).paths == PathReport()


def test_more_paths_than_fit_are_cut_and_do_not_keep_an_agent_from_reporting() -> None:
    many = tuple(f"s{n}" for n in range(MAX_PATHS + 5))
    report = Report("alpha", "b", 1, 0.0, paths=PathReport(len(many), many, many))
    paths = decode_report(encode_report(report)).paths
    assert paths == PathReport(len(many), many[:MAX_PATHS], many[:MAX_PATHS])


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"[" * 100_000, b"{}", b"1" * 5000],
)
def test_what_is_no_report_is_corrupt(data: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        decode_report(data)


def test_sizes_are_bounded() -> None:
    with pytest.raises(StoreCorrupt, match=str(MAX_REPORT_BYTES)):
        decode_report(b" " * MAX_REPORT_BYTES + b"{}")
    checks = {f"s{number}": {"healthy": True} for number in range(MAX_CHECKED_SERVICES + 1)}
    with pytest.raises(StoreCorrupt, match=str(MAX_CHECKED_SERVICES)):
        decoded(checks=checks)


def test_a_thousand_services_fit() -> None:
    checks = {f"{n:063}": ServiceHealth(healthy=False, reason="r" * 500) for n in range(1024)}
    report = decode_report(encode_report(Report("alpha", "b", 1, 0.0, checks=checks)))
    assert len(report.checks) == 1024


@pytest.mark.parametrize("both_ways", [True, False])
def test_texts_are_cut_and_cleaned_not_refused(both_ways: bool) -> None:
    nasty = "red \x1b[31m\n\x00\u202e\ud800 " + "x" * 5000
    if both_ways:
        sent = Report("alpha", nasty, 1, 0.0, version=nasty, errors=(nasty,) * 50)
        report = decode_report(encode_report(sent))
    else:
        report = decoded(boot_id=nasty, version=nasty, errors=[nasty] * 50)
    for text in (report.boot_id, report.version, *report.errors):
        assert text.isprintable()
        assert text.startswith("red ?[31m")
        assert len(text) == MAX_TEXT
    assert len(report.errors) == MAX_ERRORS


def test_a_report_that_nobody_would_accept_is_not_sent() -> None:
    with pytest.raises(StoreCorrupt, match="load"):
        encode_report(Report("alpha", "b", 1, 0.0, load=float("nan")))
    with pytest.raises(StoreCorrupt, match="server"):
        encode_report(Report("../up", "b", 1, 0.0))
