"""Agents' reports as JSON.

Types are strict, unknown keys are skipped (a newer agent may report more), sizes are bounded. Texts
that people read on a terminal are cut and cleaned instead of refused, in both directions: a long
error message must not keep an agent from reporting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from controlplane.domain.bounds import MAX_CHECKED_SERVICES
from controlplane.domain.names import is_name, printable, shown
from controlplane.domain.objects import Origin, PathReport, Report, ServiceHealth, Strays
from controlplane.store.contract import StoreCorrupt
from controlplane.store.names import check_name

MAX_REPORT_BYTES = 640 << 10
"""About 250 bytes for each of MAX_CHECKED_SERVICES checks, 64 KiB for presence and the rest."""
MAX_STRAYS = 64
"""Pairs of a pool and a cause."""
MAX_TEXT = 160
MAX_ERRORS = 16
MAX_PATHS = 1024
"""Servers that a report's paths name in each list."""
MAX_MISSING = 32
MAX_COUNT = (1 << 63) - 1


def encode_report(report: Report) -> bytes:
    """Return a report as UTF-8 JSON. Raises ``StoreCorrupt`` for an invalid one."""
    given = {
        **vars(report),
        "checks": {name: vars(health) for name, health in report.checks.items()},
        "errors": list(report.errors),
        "paths": _paths_body(report.paths),
        "missing": list(report.missing),
        "strays": [vars(one) for one in report.strays[:MAX_STRAYS]],
    }
    data = json.dumps(_report(given), default=vars, ensure_ascii=False, separators=(",", ":"))
    return _bounded(data.encode())


def decode_report(data: bytes) -> Report:
    """Return the report that ``data`` holds. Raises ``StoreCorrupt`` with the key at fault."""
    return _report(parse_object(_bounded(data), "a report"))


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_REPORT_BYTES:
        raise StoreCorrupt(f"a report of {len(data)} bytes is over {MAX_REPORT_BYTES}")
    return data


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in ``data``. Raises ``StoreCorrupt`` if it is anything else."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreCorrupt(f"{what} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise StoreCorrupt(f"{what} is not a JSON object")
    return content


def _report(content: Mapping[str, Any]) -> Report:
    return Report(
        server=check_name(content.get("server"), "server"),
        boot_id=_text(content, "boot_id"),
        sequence=_count(content, "sequence"),
        sent_at=_number(content, "sent_at"),
        ready=_flag(content, "ready"),
        stopped=_flag(content, "stopped"),
        detached=_flag(content, "detached"),
        load=None if content.get("load") is None else _number(content, "load"),
        connections=_count(content, "connections"),
        checks=_checks(content.get("checks", {})),
        version=_text(content, "version"),
        xdp_mode=_text(content, "xdp_mode"),
        errors=_errors(content.get("errors", [])),
        refused_cluster=_count(content, "refused_cluster"),
        paths=_paths(content.get("paths")),
        missing=_names(content, "missing"),
        leaving=_flag(content, "leaving"),
        strays=_strays(content.get("strays", [])),
        presence=content.get("presence"),
        flows=content.get("flows"),
        **vars(read_origin(content)),
    )


def _paths_body(paths: PathReport | None) -> dict[str, Any] | None:
    if paths is None:
        return None
    lost, unknown = list(paths.lost[:MAX_PATHS]), list(paths.unknown[:MAX_PATHS])
    return {"probed": paths.probed, "lost": lost, "unknown": unknown}


def _paths(content: object) -> PathReport | None:
    if content is None:
        return None
    if not isinstance(content, dict):
        raise StoreCorrupt("a report's paths must be an object or null")
    return PathReport(
        _count(content, "probed"), _servers(content, "lost"), _servers(content, "unknown")
    )


def _servers(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = content.get(key, [])
    valid = isinstance(names, list) and len(names) <= MAX_PATHS
    if not valid or not all(isinstance(name, str) and is_name(name) for name in names):
        raise StoreCorrupt(f"a report's {key} must be a list of at most {MAX_PATHS} servers")
    return tuple(names)


def read_origin(content: Mapping[str, Any]) -> Origin:
    """Return the machine that ``content`` names. Raises ``StoreCorrupt``."""
    dip = content.get("dip", "")
    try:
        IPv4Address(dip or "0.0.0.0")  # noqa: S104 any valid address
    except (ValueError, TypeError):
        dip = None
    if not isinstance(dip, str):
        raise StoreCorrupt(f"dip must be an IPv4 address, not {shown(content.get('dip'))}")
    return Origin(dip, _text(content, "machine"))


def _checks(content: object) -> dict[str, ServiceHealth]:
    if not isinstance(content, dict) or len(content) > MAX_CHECKED_SERVICES:
        raise StoreCorrupt(f"a report's checks must be an object of at most {MAX_CHECKED_SERVICES}")
    checks = {}
    for name, health in content.items():
        if not isinstance(health, dict):
            raise StoreCorrupt(f"a report's check {shown(name)} must be an object")
        checks[_clean(name)] = ServiceHealth(_flag(health, "healthy"), _text(health, "reason"))
    return checks


def _errors(content: object) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(line, str) for line in content):
        raise StoreCorrupt("a report's errors must be a list of texts")
    return tuple(_clean(line) for line in content[:MAX_ERRORS])


def _names(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key, [])
    if not isinstance(value, list) or len(value) > MAX_MISSING:
        raise StoreCorrupt(f"a report's {key} must be a list of at most {MAX_MISSING} names")
    if not all(isinstance(name, str) and is_name(name) for name in value):
        raise StoreCorrupt(f"a report's {key} must be a list of names, not {shown(value)}")
    return tuple(value)


def _strays(content: object) -> tuple[Strays, ...]:
    if not isinstance(content, list) or len(content) > MAX_STRAYS:
        raise StoreCorrupt(f"a report's strays must be a list of at most {MAX_STRAYS}")
    return tuple(map(_stray, content))


def _stray(content: object) -> Strays:
    known = content if isinstance(content, dict) else {}
    pool, cause, count = (known.get(key) for key in ("pool", "cause", "count"))
    named = all(isinstance(name, str) and is_name(name) for name in (pool, cause))
    if not named or type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise StoreCorrupt("a report's strays must be objects with a pool, a cause and a count")
    return Strays(str(pool), str(cause), count)


def _count(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key, 0)
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    raise StoreCorrupt(f"a report's {key} must be a whole number from 0 on, not {shown(value)}")


def _number(content: Mapping[str, Any], key: str) -> float:
    value = content.get(key, 0.0)
    if type(value) in (int, float) and 0 <= value <= MAX_COUNT:  # false for NaN
        return float(value)
    raise StoreCorrupt(f"a report's {key} must be a finite number from 0 on, not {shown(value)}")


def _flag(content: Mapping[str, Any], key: str) -> bool:
    value = content.get(key, False)
    if isinstance(value, bool):
        return value
    raise StoreCorrupt(f"a report's {key} must be true or false, not {shown(value)}")


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key, "")
    if isinstance(value, str):
        return _clean(value)
    raise StoreCorrupt(f"a report's {key} must be a text, not {shown(value)}")


def _clean(text: str) -> str:
    return printable(text, MAX_TEXT)
