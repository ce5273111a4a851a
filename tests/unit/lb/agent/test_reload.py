"""SIGHUP: what an agent changes while it runs, and what it starts with if its file is refused."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.domain.errors import ConfigError
from controlplane.store.file.store import FileStore
from controlplane.store.http.server import ServeConfig, serve
from lb.agent.config import AgentConfig, LoadConfig, Settings, SettingsFile
from lb.agent.facts import SharedFacts
from lb.agent.machine.signals import signals_handled
from lb.agent.report.certificates import note_certificates
from lb.agent.report.samplers import LoadSampler
from lb.agent.up import Runner
from lb.agent.worker import Reload, Stop
from netns.polling import wait_until
from tests.unit.controlplane.store.conftest import TOKEN, write_token
from tests.unit.controlplane.store.helpers import certificate

NEW = "another-token-of-tests-9876543210"
URL = "http://192.0.2.1:7000"


class File:
    """An agent's file, and the runner that was started with it."""

    def __init__(self, folder: Path, url: str = URL) -> None:
        self.folder = folder
        self.path = folder / "agent.toml"
        self.text = (
            'name = "s1"\ninterface = "eth0"\ndip = "10.0.0.1"\nstate_dir = "state"\n'
            f'store = "{url}"\ntoken_file = "token"\n'
        )
        self.write(self.text)
        write_token(folder)
        self.file = SettingsFile(self.path)
        self.configured: list[object] = []

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def runner(self, stack: ExitStack) -> Runner:
        return Runner(self.file, self.file.start(), stack)

    def configure(self, config: object) -> None:
        """Stands for the parts that get new settings."""
        self.configured.append(config)

    def reload(self, runner: Runner) -> dict[str, Any]:
        whole: Any = self
        with capture_logs() as logs:
            runner._reload(whole, whole)
        (line,) = [log for log in logs if log["every_time"]]
        return dict(line)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_a_hang_up_is_a_request_to_read_the_settings_again(file: File) -> None:
    with ExitStack() as stack:
        runner = file.runner(stack)
        with signals_handled(runner.signalled):
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
            events = [runner._inbox.get(timeout=5) for _ in range(3)]
    assert events == [Reload(), Stop(signal.SIGTERM), Stop(signal.SIGINT)]


def test_a_reload_changes_what_it_can_and_names_what_it_cannot(file: File) -> None:
    with ExitStack() as stack:
        runner = file.runner(stack)
        file.write(
            file.text.replace("eth0", "eth1")
            + 'on_ready = ["announce"]\n[load]\nsource = "none"\n[metrics]\nport = 1\n'
        )
        line = file.reload(runner)
        assert line["changed"] == "on_ready: added; load.source: not set -> none"
        assert line["needs_a_restart"] == "interface, metrics"
        assert line["log_level"] == "warning"
        config, load = file.configured
        assert isinstance(config, AgentConfig)
        assert (config.interface, config.on_ready) == ("eth0", ("announce",))
        assert load == config.load == LoadConfig(source="none")
        facts = runner._facts.current
        assert (facts.reloads, facts.restart_needed) == ({"ok": 1, "refused": 0}, 2)
        assert facts.settings_accepted


def test_another_store_needs_a_restart_with_its_token(file: File) -> None:
    with ExitStack() as stack:
        runner = file.runner(stack)
        file.write(file.text.replace(URL, "file:store").replace('token_file = "token"\n', ""))
        line = file.reload(runner)
        assert (line["changed"], line["needs_a_restart"]) == ("nothing", "store, token_file")


@pytest.mark.parametrize("fault", ["x =", "dipp = 1\n", "[load]\nsource = 'cgroup'\n", "token"])
def test_a_refused_reload_changes_nothing(file: File, fault: str) -> None:
    with ExitStack() as stack:
        runner = file.runner(stack)
        if fault == "token":
            (file.folder / "token").chmod(0o644)
        else:
            file.write(file.text + fault)
        line = file.reload(runner)
        assert (line["event"], line["log_level"]) == ("settings not changed", "error")
        assert file.configured == []
        facts = runner._facts.current
        assert facts.reloads == {"ok": 0, "refused": 1}
        assert not facts.settings_accepted
        assert line["reason"] in facts.troubles["settings"]
        (file.folder / "token").chmod(0o600)
        file.write(file.text)
        file.reload(runner)
        assert "settings" not in runner._facts.current.troubles


def test_the_stores_of_all_parts_use_a_new_token(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    config = ServeConfig("127.0.0.1", 0, write_token(served))
    with serve(FileStore(tmp_path / "store"), config) as serving, ExitStack() as stack:
        file = File(tmp_path, serving.url)
        runner = file.runner(stack)
        stores = [runner._store() for _ in range(3)]
        write_token(served, f"{NEW}\n{TOKEN}")
        serving.credentials.use(config.credentials())
        write_token(tmp_path, NEW)
        line = file.reload(runner)
        assert line["changed"] == "token_file: the content of the file changed"
        write_token(served, NEW)
        serving.credentials.use(config.credentials())
        assert [store.kinds() for store in stores] == [{}, {}, {}]


def test_the_end_of_the_authority_in_use_is_known_from_the_start_and_after_a_reload(
    tmp_path: Path,
) -> None:
    pem, _ = certificate(tmp_path)
    file = File(tmp_path, "https://192.0.2.1:7000")
    file.write(file.text + f'ca_file = "{pem}"\n')
    with ExitStack() as stack:
        runner = file.runner(stack)
        note_certificates(runner.settings.config, runner._facts)
        first = runner._facts.current.certificates["ca_file"]
        assert time.time() + 29 * 86_400 < first < time.time() + 31 * 86_400
        more = certificate(tmp_path, days=300)[0].read_text()
        assert runner._facts.current.certificates == {"ca_file": first}, "the old one is in use"
        pem.write_text(more)
        file.reload(runner)
        assert runner._facts.current.certificates["ca_file"] > first + 200 * 86_400


@pytest.mark.parametrize("fault", ["x =", "dipp = 1\n", "token"])
def test_a_file_that_is_refused_at_the_start_is_replaced_by_the_last_good_settings(
    file: File, fault: str
) -> None:
    file.write(file.text + "hook_timeout_seconds = 7\n")
    file.file.save(file.file.start())
    if fault == "token":
        (file.folder / "token").unlink()
    else:
        file.write(file.text + fault)
    with pytest.raises(ConfigError) as refused:
        file.file.read()
    found = SettingsFile(file.path).start()
    assert found.refused == str(refused.value)
    assert found.config.hook_timeout_seconds == 7
    assert found.config.token_file is not None
    assert found.config.token_file.read_text() == f"{TOKEN}\n"
    with ExitStack() as stack, capture_logs() as logs:
        runner = Runner(file.file, found, stack)
        runner._note_start()
    assert logs[0]["event"] == "settings refused: the last good ones are in use"
    facts = runner._facts.current
    assert (facts.settings_accepted, facts.settings_last_good) == (False, True)
    assert "the last good settings are in use" in facts.troubles["settings"]


def test_without_last_good_settings_a_refused_file_is_an_error(file: File) -> None:
    file.write("x =")
    with pytest.raises(ConfigError, match="not valid TOML"):
        file.file.start()


def test_a_start_saves_what_is_good(file: File) -> None:
    settings: Settings = file.file.start()
    with ExitStack() as stack:
        Runner(file.file, settings, stack)._note_start()
    file.write("x =\nstate_dir = 'state'\n")
    assert file.file.start().config.name == "s1"


def test_the_load_source_changes_while_it_runs() -> None:
    facts = SharedFacts(time.time())
    sampler = LoadSampler(LoadConfig(window_seconds=0.2), facts)
    sampler.start()
    try:
        wait_until(lambda: facts.current.load is not None, "a load")
        sampler.configure(LoadConfig(source="none"))
        wait_until(lambda: facts.current.load is None, "none")
        sampler.configure(LoadConfig(window_seconds=0.2))
        wait_until(lambda: facts.current.load is not None, "a load again")
    finally:
        sampler.stop()
        sampler.join(5)
