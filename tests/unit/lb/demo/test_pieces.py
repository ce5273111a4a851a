"""The smaller parts of the demo: router, counters, settings, steps, results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from controlplane.domain.errors import UsageError
from controlplane.settings.load import load_control_config
from controlplane.settings.models import ControlConfig
from lb.agent.config import load_agent_config
from lb.demo import scenario
from lb.demo.progress import ProgressLog
from lb.demo.results import Findings, StepResult
from lb.demo.runner import chosen_steps
from lb.demo.site import content, counters, nginx, settings
from lb.demo.site.router import RouteState
from lb.demo.steps.balance import Sample, utilisation
from lb.demo.steps.kill import ENDPOINTS
from netns.host import Host

A, B, C = "10.0.1.2", "10.0.2.2", "10.0.3.2"


def test_the_router_uses_servers_that_are_announced_have_carrier_and_are_not_excluded() -> None:
    state = RouteState()
    requests: list[tuple[dict[str, Any], list[str], list[str]]] = [
        ({"announce": B}, [A, B, C], [B]),
        ({"announce": A}, [A, B, C], [A, B]),
        ({}, [B, C], [B]),
        ({}, [A, B, C], [B]),
        ({"announce": A}, [A, B, C], [A, B]),
        ({"exclude": [B]}, [A, B, C], [A]),
        ({"exclude": []}, [A, B, C], [A, B]),
        ({"withdraw": A}, [A, B, C], [B]),
        ({"withdraw": C}, [A, B, C], [B]),
    ]
    for request, with_carrier, used in requests:
        state.apply(request)
        state.keep(with_carrier)
        assert state.in_use() == used


def test_counters_that_shrank_began_again_at_zero() -> None:
    before = {"pass_on": 10, "pass_local": 7}
    assert counters.growth(before, {"pass_on": 12, "pass_local": 3, "new": 1}) == {
        "pass_on": 2,
        "pass_local": 3,
        "new": 1,
    }


def test_every_counter_the_demo_asks_for_exists() -> None:
    from lb import abi

    asked = {*counters.FIRST_HOP, *counters.FORWARDED, *counters.ACCEPTED, counters.DAISY_CHAINED}
    assert asked <= set(abi.COUNTERS)


def host(base: Path) -> Host:
    made = SimpleNamespace(state_dir=base / "state", run_dir=base / "run", bpffs=base / "bpf")
    return cast("Host", made)


@pytest.mark.parametrize("number", [1, 4])
def test_the_agents_settings_are_valid(tmp_path: Path, number: int) -> None:
    path = tmp_path / "agent.toml"
    text = settings.agent_toml(number, host(tmp_path), tmp_path / "store", tmp_path / "r.sock")
    path.write_text(text, encoding="utf-8")
    config = load_agent_config(path)
    assert config.dip == IPv4Address(f"10.0.{number}.2")
    assert config.on_ready[-2:] == ("--announce", str(config.dip))
    assert config.on_withdraw[-2:] == ("--withdraw", str(config.dip))
    assert (config.load.source == "metric") == (number in scenario.CAPACITIES)


def test_the_controllers_settings_are_valid_and_the_control_pool_is_unchained(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.toml"
    text = settings.control_toml(tmp_path, (1, 2, 3, 4), "load", daily=True)
    path.write_text(text, encoding="utf-8")
    config = load_control_config(path)
    depths = {pool.name: pool.depth for pool in config.pool if pool.name != scenario.DAILY}
    assert depths == {scenario.WEB: None, scenario.PLAIN: 1, scenario.WORK: None}
    work = [server.name for server in config.server if server.serves(scenario.WORK)]
    assert work == ["server1", "server2", "server3"]
    assert {service.vip for service in config.service} == {
        IPv4Network(vip) for vip in scenario.VIPS
    }


def test_the_daily_pool_and_the_default_timing_are_what_a_file_without_these_keys_has(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.toml"
    text = settings.control_toml(tmp_path, (1, 2), "equal", daily=True, default_timing=True)
    path.write_text(text, encoding="utf-8")
    found, defaults = load_control_config(path), ControlConfig.model_fields
    (daily,) = (pool for pool in found.pool if pool.name == scenario.DAILY)
    assert daily == type(daily)(name=scenario.DAILY)
    assert found.tick_seconds == defaults["tick_seconds"].default
    assert found.slow_start_seconds == defaults["slow_start_seconds"].default
    path.write_text(settings.control_toml(tmp_path, (1, 2), "equal"), encoding="utf-8")
    usual = load_control_config(path)
    assert scenario.DAILY not in {pool.name for pool in usual.pool}
    assert usual.slow_start_seconds < found.slow_start_seconds


def test_no_file_of_agents_or_controller_contains_a_capacity(tmp_path: Path) -> None:
    texts = [settings.control_toml(tmp_path, (1, 2, 3), "load")]
    texts += [
        settings.agent_toml(n, host(tmp_path), tmp_path, tmp_path / "r.sock").replace(
            f"10.0.{n}.2", ""
        )
        for n in scenario.CAPACITIES
    ]
    assert not any("capacity" in text for text in texts)
    # Except for names and addresses, all three agents have the same settings.
    assert len({text.replace(f"server{n}", "") for n, text in enumerate(texts[1:], 1)}) == 1


def test_content_is_named_after_its_hash_and_the_same_everywhere(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert content.write_files(tmp_path / "one") == content.write_files(tmp_path / "two")


def test_accepts_are_counted_by_connection_and_nonce(tmp_path: Path) -> None:
    assert nginx.accepts(tmp_path, "abc") == 0
    lines = ["7 1.2.3.4:5 /accept/abc", "7 1.2.3.4:5 /accept/abc", "8 1.2.3.4:6 /accept/abc"]
    lines.append("9 1.2.3.4:7 /accept/abcd")
    (tmp_path / nginx.ACCEPT_LOG).write_text("\n".join(lines) + "\n", encoding="ascii")
    assert nginx.accepts(tmp_path, "abc") == 2


def test_steps_keep_their_order_and_a_control_stands_for_its_step() -> None:
    assert chosen_steps([]) == [
        "spread", "join", "drain", "reshuffle",
        "agent_restart", "controller_restart", "kill", "operate", "rolling", "balance",
    ]  # fmt: skip
    assert chosen_steps(["kill", "join_unchained", "join"]) == ["join", "kill"]
    with pytest.raises(UsageError, match="'jump'"):
        chosen_steps(["jump"])
    with pytest.raises(UsageError, match="did you mean 'kill'"):
        chosen_steps(["kil"])


def test_busy_time_over_time() -> None:
    first, last = Sample(10.0, {"a": 1.0, "b": 0.0}), Sample(14.0, {"a": 3.0, "b": 4.0})
    assert utilisation(first, last) == {"a": 0.5, "b": 1.0}


def test_ss_lines_give_local_and_peer() -> None:
    line = "ESTAB 0 0 192.0.2.10:80 198.51.100.6:41790 users\n"
    assert ENDPOINTS.findall(line) == [("192.0.2.10", "80", "198.51.100.6", "41790")]


def step(name: str, **more: Any) -> StepResult:
    return StepResult(name, **more)


def test_the_json_has_the_documented_keys() -> None:
    findings = Findings([step("kill", broken=3, broken_expected=3, more={"table_seconds": 1.5})])
    made: Mapping[str, Any] = json.loads(json.dumps(findings.as_json()))
    assert {"ok", "steps", "shares", "utilisation"} <= set(made)
    (kill,) = made["steps"]
    wanted = {"name", "control", "tcp_open", "udp_open", "broken", "broken_expected"}
    assert wanted | {"daisy_chained", "seconds", "table_seconds"} <= set(kill)


def test_one_broken_promise_breaks_the_whole() -> None:
    good, bad = step("spread"), step("join")
    assert Findings([good, bad]).ok
    bad.promise(kept=True, otherwise="never recorded")
    assert Findings([good, bad]).ok
    bad.promise(kept=False, otherwise="3 broken")
    assert not Findings([good, bad]).ok
    assert not Findings([]).ok
    assert bad.failures == ["3 broken"]


def test_the_summary_names_every_step_and_its_verdict() -> None:
    bad = step("drain", broken=3)
    bad.promise(kept=False, otherwise="3 broken")
    stream = StringIO()
    progress = ProgressLog(Console(file=stream, width=120))
    progress.summary(Findings([step("join", daisy_chained=77), bad]))
    text = stream.getvalue()
    for word in ("join", "77", "kept", "drain", "BROKEN", "a promise was broken"):
        assert word in text
