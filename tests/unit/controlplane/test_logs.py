"""Logs: one line an event, no floods, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from controlplane.logs import RateLimiter, configure


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_level_and_time() -> None:
    stream = io.StringIO()
    configure("json", stream=stream)
    structlog.get_logger().warning("store unreachable", store="file:/x", tries=3)
    (line,) = lines(stream)
    assert line["event"] == "store unreachable"
    assert line["level"] == "warning"
    assert line["tries"] == 3
    assert str(line["timestamp"]).endswith("Z")


def test_what_a_reader_looks_for_comes_first() -> None:
    stream = io.StringIO()
    configure("json", stream=stream)
    structlog.get_logger().info("document taken", generation=3, reason="", about="cluster")
    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "about", "generation"]


def test_the_result_of_what_a_person_did_is_never_left_out() -> None:
    stream, clock = io.StringIO(), Clock()
    configure("json", stream=stream, limiter=RateLimiter(1, 60, clock))
    log = structlog.get_logger()
    for reason in ("a", "b", "c"):
        log.error("settings not changed", every_time=True, reason=reason)
    assert [line["reason"] for line in lines(stream)] == ["a", "b", "c"]
    assert all("every_time" not in line for line in lines(stream))


def test_a_repeated_event_is_limited_and_says_how_many_were_left_out() -> None:
    stream, clock = io.StringIO(), Clock()
    configure("json", stream=stream, limiter=RateLimiter(2, 60, clock))
    log = structlog.get_logger()
    for _ in range(10):
        log.info("hook failed")
    log.info("another event")
    assert [line["event"] for line in lines(stream)] == ["hook failed"] * 2 + ["another event"]
    clock.now = 61
    log.info("hook failed")
    assert lines(stream)[-1]["suppressed"] == 8


def test_events_about_different_things_have_limits_of_their_own() -> None:
    stream = io.StringIO()
    configure("json", stream=stream, limiter=RateLimiter(1, 60, Clock()))
    for about in ("web", "dns", "web"):
        structlog.get_logger().info("check failed", about=about)
    assert [line["about"] for line in lines(stream)] == ["web", "dns"]


def test_secrets_and_raw_bytes_are_never_written() -> None:
    stream = io.StringIO()
    configure("json", stream=stream)
    secret = b"0123456789abcdef"
    structlog.get_logger().info("x", token="hunter2", key=secret, data=secret, key_id="pool-1")
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "0123456789" not in text
    assert lines(stream)[0]["key_id"] == "pool-1"


def test_warnings_of_other_libraries_take_the_same_way() -> None:
    stream = io.StringIO()
    configure("json", stream=stream)
    logging.getLogger("somebody").warning("careful: %s", "this")
    logging.getLogger("somebody").info("chatter")
    assert [line["event"] for line in lines(stream)] == ["careful: this"]


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("name", ["httpx2", "httpcore2.http11"])
def test_requests_are_not_chattered_about(name: str, level: str) -> None:
    stream = io.StringIO()
    configure("json", level=level, stream=stream)
    logging.getLogger(name).info("HTTP Request: GET http://192.0.2.1/ 200 OK")
    assert lines(stream) == []


def test_people_get_plain_lines() -> None:
    stream = io.StringIO()
    configure("console", stream=stream)
    structlog.get_logger().info("ready", server="s1")
    assert "ready" in stream.getvalue()
    assert "server=s1" in stream.getvalue()
