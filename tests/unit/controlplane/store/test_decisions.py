"""A controller's decisions in a store: they come back as they were, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.decisions import (
    Decisions,
    Missing,
    PoolDecisions,
    Proved,
    Reason,
    ServerBuckets,
)
from controlplane.operator.overview import decisions_of
from controlplane.store.contract import StoreCorrupt
from controlplane.store.decisions import decode_decisions, encode_decisions
from controlplane.store.file.store import FileStore

SOME = Decisions(
    12.5,
    {"s1": ("pool web would have 1 of 4 servers active",)},
    {"s2": ("web", "web6")},
    {"s3": "s1, s2 do not reach it"},
    {
        "web": PoolDecisions(
            generation=7,
            waiting_for=("s2",),
            panic=True,
            shares={"s1": 0.5},
            caps={"s1": 10},
            servers={"s1": ServerBuckets(1, 64, (Missing(Reason.CHAIN_FULL, 63, "why"),), "last")},
            forced=3,
        )
    },
    (Proved("s2", "s1", 3), Proved("s3", "s1", 1)),
)


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    assert store.decisions() is None
    store.put_decisions(SOME)
    assert store.decisions() == SOME
    store.put_decisions(Decisions())
    assert store.decisions() == Decisions()
    (tmp_path / "store/decisions.json").write_bytes(b"{")
    with pytest.raises(StoreCorrupt, match="decisions is not JSON"):
        store.decisions()
    assert decisions_of(store) == Decisions(), "a command goes on without them"
    store.close()


def test_an_earlier_controller_does_not_report_forced_hops() -> None:
    content = json.loads(encode_decisions(SOME))
    del content["pools"]["web"]["forced"]
    assert decode_decisions(json.dumps(content).encode()).pools["web"].forced is None


def changed(**values: Any) -> bytes:
    return json.dumps({**json.loads(encode_decisions(SOME)), **values}).encode()


@pytest.mark.parametrize(
    "values",
    [
        {"at": "now"},
        {"at": -1},
        {"held": []},
        {"held": {"s1": "because"}},
        {"held": {"../s1": []}},
        {"refusing": {"s1": "web"}},
        {"cut_off": {"s1": 1}},
        {"pools": {"web": []}},
        {"pools": {"web": {}}},
        {"proved": {}},
        {"proved": [3]},
        {"proved": [{"broken_by": "../s1", "held_by": "s1", "count": 1}]},
        {"proved": [{"broken_by": "s1", "held_by": "s2", "count": -1}]},
        {"proved": [{"broken_by": "s1", "held_by": "s2", "count": 1}] * 2000},
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(StoreCorrupt):
        decode_decisions(changed(**values))


def test_those_of_an_earlier_controller_have_fewer_keys() -> None:
    content = json.loads(encode_decisions(SOME))
    del content["refusing"], content["cut_off"], content["proved"]
    del content["pools"]["web"]["servers"]["s1"]["keeps"]
    found = decode_decisions(json.dumps(content).encode())
    assert (found.held, found.refusing, found.cut_off) == (SOME.held, {}, {})
    assert found.proved == ()
    assert found.pools["web"].servers["s1"].keeps == ""


def test_unknown_keys_are_skipped_and_texts_are_safe_to_print() -> None:
    found = decode_decisions(changed(future=1, held={"s1": ["\x1b[2J" + "x" * 1000]}))
    (text,) = found.held["s1"]
    assert text.startswith("?[2J")
    assert len(text) == 400
