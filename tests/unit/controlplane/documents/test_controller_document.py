"""The ``controller`` document: what comes back, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.documents.controller import (
    controller_generation,
    decode_controller,
    encode_controller,
)
from controlplane.documents.envelope import seal
from controlplane.documents.fields import DocumentError
from controlplane.domain.controller_state import (
    CONTROLLER,
    MAX_FLEET_SECONDS,
    ControllerState,
    DrainRequest,
)

STATE = ControllerState(
    fleet_seconds=1_790_000_000.125,
    slow_start={"s4": 0.25},
    shares={"web": {"s1": 1.5, "s2": 0.5}},
    requests={"s2": DrainRequest("ann@ctl", 1_790_000_001.0, "a new kernel", force=True)},
)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
states = st.builds(
    ControllerState,
    fleet_seconds=st.floats(0, MAX_FLEET_SECONDS),
    slow_start=st.dictionaries(names, st.floats(0, 1), max_size=4),
    shares=st.dictionaries(
        names, st.dictionaries(names, st.floats(1e-6, 1e6), max_size=4), max_size=3
    ),
    requests=st.dictionaries(
        names, st.builds(DrainRequest, st.just("a@b"), st.floats(0, 1e10), st.just("x")), max_size=3
    ),
)


def body(**change: Any) -> Mapping[str, Any]:
    plain = {"fleet_seconds": 5.0, "slow_start": {}, "shares": {}, "requests": {}}
    return {**plain, **change}


@given(states)
def test_what_is_stored_comes_back(state: ControllerState) -> None:
    assert decode_controller(encode_controller(state, 3)) == state


def test_the_generation_is_that_of_the_envelope() -> None:
    assert controller_generation(encode_controller(STATE, 7)) == 7


def test_unknown_keys_are_those_of_a_newer_controller() -> None:
    assert decode_controller(seal(CONTROLLER, 1, body(more=[1]))).fleet_seconds == 5.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fleet_seconds": -1}, "out_of_range"),
        ({"fleet_seconds": MAX_FLEET_SECONDS + 1}, "out_of_range"),
        ({"fleet_seconds": True}, "wrong_type"),
        ({"fleet_seconds": "1"}, "wrong_type"),
        ({"slow_start": {"s1": 1.1}}, "out_of_range"),
        ({"slow_start": {"../s1": 0.5}}, "bad_name"),
        ({"slow_start": []}, "wrong_type"),
        ({"slow_start": {f"s{n}": 0.5 for n in range(4096)}}, "too_large"),
        ({"shares": {"web": {"s1": 0}}}, "out_of_range"),
        ({"shares": {"web": {"s1": 1e7}}}, "out_of_range"),
        ({"shares": {"web": {"s 1": 1.0}}}, "bad_name"),
        ({"shares": {"web": 1}}, "wrong_type"),
        ({"shares": {f"p{n}": {} for n in range(257)}}, "too_large"),
        ({"requests": {"s1": {"by": "", "at": 0}}}, "missing_key"),
        ({"requests": {"s1": {"by": 1, "at": 0, "reason": ""}}}, "wrong_type"),
        ({"requests": {"s1": {"by": "", "at": 1e20, "reason": ""}}}, "out_of_range"),
    ],
)
def test_what_cannot_be_is_refused(change: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(DocumentError) as caught:
        decode_controller(seal(CONTROLLER, 1, body(**change)))
    assert caught.value.reason == reason


def test_damage_and_other_kinds_are_refused() -> None:
    data = encode_controller(STATE, 3)
    for damaged, reason in (
        (data.replace(b"0.25", b"0.75"), "wrong_checksum"),
        (data[:-5], "malformed"),
        (data.replace(b'"version":1', b'"version":2'), "future_version"),
        (seal("cluster", 1, body()), "wrong_kind"),
    ):
        with pytest.raises(DocumentError) as caught:
            decode_controller(damaged)
        assert caught.value.reason == reason


def test_texts_are_safe_to_print() -> None:
    request = {"by": "a\x1b[2J@b", "at": 0, "reason": "r" * 1000}
    found = decode_controller(seal(CONTROLLER, 1, body(requests={"s1": request})))
    assert found.requests["s1"].by == "a?[2J@b"
    assert len(found.requests["s1"].reason) == 160


def test_a_large_fleet_fits() -> None:
    """4,000 servers, and 100 pools of 1,000 whose shares are all different."""
    servers = {f"server-{n}": 0.5 + n / 8000 for n in range(4000)}
    pool = dict(list(servers.items())[:1000])
    state = ControllerState(5.0, {}, {f"pool-{n}": pool for n in range(100)}, {})
    assert len(encode_controller(state, 1)) < 8 << 20
