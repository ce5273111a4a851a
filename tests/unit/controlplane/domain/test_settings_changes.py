"""What a reload changed: the line for the log, and the keys that keep their values."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.settings_changes import Accepted, changes, keep

OLD: dict[str, Any] = {
    "tick_seconds": 1.0,
    "listen": {"port": 7000, "token_file": "/t"},
    "server": [{"name": "s1", "dip": "10.0.0.1"}, {"name": "s2", "dip": "10.0.0.2"}],
    "pool": [{"name": "web", "query": "up", "prometheus_url": "http://u:secret@p"}],
    "on_ready": ["notify", "--password", "secret"],
}


@pytest.mark.parametrize(
    ("new", "line"),
    [
        ({}, ""),
        ({"tick_seconds": 0.5}, "tick_seconds: 1.0 -> 0.5"),
        ({"cap": True}, "cap: not set -> true"),
        ({"listen": {"token_file": "/t"}}, "listen.port: 7000 -> not set"),
        (
            {"server": [{"name": "s1"}, {"name": "s2", "dip": "10.0.0.3"}]},
            "server[s1].dip: 10.0.0.1 -> not set; server[s2].dip: 10.0.0.2 -> 10.0.0.3",
        ),
        (
            {"pool": [{"name": "web", "query": "up", "prometheus_url": "http://u:other@p"}]},
            "pool[web].prometheus_url: changed",
        ),
        ({"on_ready": ["notify", "secret2"]}, "on_ready: changed"),
        ({"on_withdraw": ["x", "secret"]}, "on_withdraw: added"),
        ({"cap": "x" * 100}, f"cap: not set -> {'x' * 60}..."),
    ],
)
def test_the_line_has_keys_and_values_but_no_secret(new: dict[str, Any], line: str) -> None:
    assert changes(Accepted(OLD), Accepted({**OLD, **new})) == line


def test_the_content_of_a_secret_file_is_named_not_shown() -> None:
    old, new = Accepted(OLD, {"token_file": b"secret"}), Accepted(OLD, {"token_file": b"other"})
    assert changes(old, old) == ""
    assert changes(old, new) == "token_file: the content of the file changed"
    assert "secret" not in repr(old)


def test_a_long_list_of_changes_ends_with_a_count() -> None:
    many = {f"key{number:02}": number for number in range(30)}
    line = changes(Accepted({}), Accepted(many))
    assert line.count(";") == 20
    assert line.endswith("; 10 more")


@pytest.mark.parametrize(
    ("new", "kept", "differing"),
    [
        ({"store": "a", "tick": 2}, {"store": "a", "tick": 2}, []),
        ({"store": "b", "tick": 2}, {"store": "a", "tick": 2}, ["store"]),
        ({"tick": 2}, {"store": "a", "tick": 2}, ["store"]),
        ({"store": "a", "log": "json"}, {"store": "a"}, ["log"]),
    ],
)
def test_fixed_keys_keep_their_values(
    new: dict[str, Any], kept: dict[str, Any], differing: list[str]
) -> None:
    assert keep({"store": "a", "tick": 1}, new, ("store", "log")) == (kept, differing)


def test_fixed_keys_of_a_table_keep_their_values_and_the_others_change() -> None:
    fixed = ("listen.port", "listen.address")
    old = {"listen": {"port": 1, "token_file": "/a"}}
    new = {"listen": {"port": 2, "token_file": "/b"}}
    assert keep(old, new, fixed) == ({"listen": {"port": 1, "token_file": "/b"}}, ["listen.port"])
    assert keep(old, {}, fixed) == (old, ["listen"])
    assert keep({}, new, fixed) == ({}, ["listen"])
    assert new["listen"]["port"] == 2, "the argument stays as it was"
