"""The agent's settings: what is refused, in which words, and what the defaults are."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controlplane.domain.errors import ConfigError
from controlplane.domain.overhead import overhead_bytes
from lb.agent.config import AgentConfig, load_agent_config

MINIMAL = 'name = "s1"\ninterface = "eth0"\ndip = "10.0.0.1"\n'


def load(tmp_path: Path, text: str) -> AgentConfig:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_agent_config(path)


def test_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.dip == IPv4Address("10.0.0.1")
    assert config.store == "file:/var/lib/bucket-brigade/store"
    assert config.state_dir == Path("/var/lib/bucket-brigade")
    assert config.run_dir == Path("/run/bucket-brigade")
    assert config.bpffs == Path("/sys/fs/bpf/bucket-brigade")
    assert (config.xdp_mode, config.metrics.port, config.load.source) == ("native", 9109, "machine")
    assert config.load.window_seconds == 2
    assert config.hook_timeout_seconds == 10


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        MINIMAL
        + 'store = "file:store"\nstate_dir = "state"\nbpffs = "bpf"\n'
        + '[load]\nsource = "cgroup"\ncgroup = "group"\n',
    )
    assert config.store == f"file:{tmp_path}/store"
    assert config.state_dir == tmp_path / "state"
    assert config.bpffs == tmp_path / "bpf"
    assert config.load.cgroup == tmp_path / "group"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "name: is required"),
        (MINIMAL.replace("s1", "S1"), "name: must be 1 to 63 of a-z 0-9 . _ -"),
        (MINIMAL + "dipp = 1\n", "dipp: unknown key; did you mean 'dip'?"),
        (MINIMAL.replace("10.0.0.1", "10.0.0.300"), "dip: must be an IPv4 address"),
        (MINIMAL.replace("10.0.0.1", "fe80::1"), "dip: must be an IPv4 address"),
        (MINIMAL.replace("10.0.0.1", "224.0.0.1"), "dip: must be this server's own unicast"),
        (MINIMAL.replace("eth0", "lo"), "interface: must be the name of a network interface"),
        (MINIMAL + 'store = "etcd:x"\n', "store: must be file:DIR, http://HOST:PORT or"),
        (MINIMAL + 'xdp_mode = "fast"\n', "xdp_mode: must be 'native' or 'generic'"),
        (MINIMAL + 'on_ready = "birdc"\n', "on_ready: must be a list"),
        (MINIMAL + "[metrics]\nport = 70000\n", "metrics.port: must be at most 65535"),
        (MINIMAL + '[load]\nsource = "cgroup"\n', "load: cgroup is required with source"),
        (MINIMAL + '[load]\ncgroup = "/x"\n', "load: cgroup is allowed only with source"),
        (MINIMAL + '[load]\nsorce = "none"\n', "load.sorce: unknown key; did you mean 'source'?"),
        (MINIMAL + 'token_file = "t"\n', "token_file is allowed only with an http"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_overhead_is_that_of_the_wire() -> None:
    assert [overhead_bytes(depth) for depth in (1, 2, 3, 4)] == [36, 40, 44, 48]
    with pytest.raises(ValueError, match="1 to 4"):
        overhead_bytes(5)
