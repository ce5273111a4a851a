"""`lbctl check --against STORE` refuses what a reload of the controller would refuse."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import lb.cli.main as cli
from controlplane.controller.settings import SettingsFile
from controlplane.domain.errors import ConfigError
from controlplane.domain.objects import ServerState
from controlplane.store.contract import Version
from controlplane.store.file.store import FileStore
from tests.unit.controlplane.store.conftest import write_token
from tests.unit.controlplane.store.helpers import certificate
from tests.unit.lb.agent.fakes import BUCKETS, a_cluster, encoded

CONTROL = f"""
store = "file:store"
tick_seconds = 1.0
[listen]
address = "127.0.0.1"
port = 7000
token_file = "token"
certificate = "cert.pem"
private_key = "key.pem"
[[server]]
name = "s1"
dip = "10.0.0.1"
[[server]]
name = "s2"
dip = "10.0.0.2"
[[pool]]
name = "web"
buckets = {BUCKETS}
depth = 2
"""


class Site:
    """A controller's file, and the store that its controller has."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "control.toml"
        self.store = folder / "store"
        self.file.write_text(CONTROL)
        write_token(folder)
        certificate(folder)
        store = FileStore(self.store)
        cluster = a_cluster(1, states={1: ServerState.ACTIVE})
        store.publish(Version("cluster", 1, encoded(cluster)))
        store.close()
        file = SettingsFile(self.file)
        file.save(file.read())

    def check(self, *words: str) -> int:
        return cli.run(["check", str(self.file), *(words or ("--against", f"file:{self.store}"))])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_refused_reload_names_the_command_that_lists_every_mistake(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONTROL.replace("depth = 2", "depth = 3").replace(str(BUCKETS), str(2 * BUCKETS))
    site.file.write_text(text)
    with pytest.raises(ConfigError, match=r"pool\[1\].buckets: .*\(and 1 more; `") as refused:
        SettingsFile(site.file).read(a_cluster(1, states={1: ServerState.ACTIVE}))
    command = shlex.split(str(refused.value).split("`")[1])
    assert command[0] == "lbctl"
    assert cli.run(command[1:]) == 2
    error = capsys.readouterr().err
    assert "pool[1].buckets: " in error
    assert "pool[1].depth: " in error


def test_every_mistake_is_named(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONTROL.replace("depth = 2", "depth = 3").replace(str(BUCKETS), str(2 * BUCKETS))
    site.file.write_text(text.replace("10.0.0.1", "10.0.0.7"))
    (site.file.parent / "token").chmod(0o644)
    (site.file.parent / "key.pem").write_text("")
    assert site.check() == 2
    lines = capsys.readouterr().err.splitlines()
    keys = [line.removeprefix(f"lbctl: error: {site.file}: ").partition(":")[0] for line in lines]
    assert keys == [
        "pool[1].buckets",
        "pool[1].depth",
        "server[1].dip",
        "listen.token_file",
        "listen.certificate",
    ]
    assert site.check("--against", str(site.store), "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], len(found["faults"])) == (False, 5)
    (site.file.parent / "key.pem").unlink()
    assert site.check(f"--against={site.store}") == 2


def test_what_a_reload_would_change_is_a_note(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.check() == 0
    assert "a reload changes" not in capsys.readouterr().out
    site.file.write_text(
        CONTROL.replace("tick_seconds = 1.0", "tick_seconds = 2.0").replace("7000", "7001")
    )
    write_token(site.file.parent, "other")
    assert site.check() == 0
    out = capsys.readouterr().out
    assert (
        "note: a reload changes: tick_seconds: 1.0 -> 2.0; listen.token_file: the content of the "
        "file changed\n" in out
    )
    assert "note: a restart is needed for: listen.port\n" in out


def test_a_pool_that_keeps_a_depth_below_the_default_is_a_note(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.file.write_text(CONTROL.replace("depth = 2\n", ""))
    assert site.check() == 0
    assert "note: pool[1].depth: 'web' keeps depth 2, a new pool gets 4" in capsys.readouterr().out


def test_a_store_that_is_not_there_is_not_created(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = site.file.parent / "absent"
    assert site.check("--against", str(absent)) == 5
    assert "there is no store" in capsys.readouterr().err
    assert not absent.exists()
    assert site.check("--against", "https://192.0.2.1:7000") == 2


def test_an_agents_file_has_no_store_to_be_checked_against(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.file.write_text('name = "s1"\ninterface = "eth0"\ndip = "10.0.0.1"\n')
    assert site.check() == 2
    assert "is for the file of a controller" in capsys.readouterr().err
