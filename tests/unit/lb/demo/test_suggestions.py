"""The commands that `lbctl demo --keep` prints: with sudo where needed, with real options."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from lb.cli.main import cli
from lb.demo.suggestions import commands, suggested_commands
from netns.network import Network


class Hosts(dict[str, Any]):
    """A network of which only the record and the namespaces are used."""

    def __init__(self, path: Path) -> None:
        super().__init__(router=SimpleNamespace(namespace=path / "netns" / "bb-1-router"))
        self.record = SimpleNamespace(path=path)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return cast("Network", Hosts(tmp_path))


@pytest.mark.parametrize(("user", "root"), [("ann", "sudo sh "), (None, "sh ")])
def test_a_user_gets_sudo_in_each_command(
    network: Network, monkeypatch: pytest.MonkeyPatch, user: str | None, root: str
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    if user:
        monkeypatch.setenv("SUDO_USER", user)
    lines = suggested_commands(network)
    tried = [line for line in lines[3:-3] if not line.startswith("#")]
    assert len(tried) == len(commands())
    assert all(line.startswith(root) for line in tried)
    assert lines[-1].startswith("sudo ") == bool(user)


def test_every_lbctl_command_and_option_exists() -> None:
    names = set()
    for _, command in commands():
        _, program, *words = shlex.split(command)
        if program != "lbctl":
            continue
        context = click.Context(cli)
        found = cli.get_command(context, words[0])
        assert found is not None, command
        found.make_context(words[0], words[1:], resilient_parsing=True)
        names.add(words[0])
    assert {"servers", "trace", "status", "drain"} <= names


def test_the_script_adds_the_hosts_settings(network: Network, tmp_path: Path) -> None:
    suggested_commands(network)
    for host, file in (("server1", "agent.toml"), ("controller", "control.toml")):
        (tmp_path / "hosts" / host).mkdir(parents=True)
        (tmp_path / "hosts" / host / file).touch()
    (tmp_path / "nsenter").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "nsenter").chmod(0o755)

    def asked(*words: str) -> list[str]:
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", str(tmp_path / "in"), *words],
            env={"PATH": path},
            check=True,
            text=True,
            capture_output=True,
        )
        return done.stdout.split()

    space, _, name, option, file = asked("server1", "lbctl", "status")
    assert space == f"--net={tmp_path}/netns/bb-1-server1"
    assert (name, option, file) == ("status", "--config", f"{tmp_path}/hosts/server1/agent.toml")
    assert asked("controller", "lbctl", "drain", "s2")[-2:] == [
        f"{tmp_path}/hosts/controller/control.toml",
        "s2",
    ]
    assert asked("client1", "ip", "route")[-2:] == ["ip", "route"]
