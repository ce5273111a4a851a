"""`lbctl control` and the commands beside it, as processes."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from controlplane.store.contract import StoreError
from controlplane.store.http.client import HttpStore
from controlplane.store.open import open_agent_store
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.store.conftest import TOKEN, write_token
from tests.unit.controlplane.store.helpers import certificate

NEW = "another-token-of-tests-9876543210"

SETTINGS = """
store = "file:store"
tick_seconds = 0.1
silent_after_seconds = 0.5
silent_wait_seconds = 1
slow_start_seconds = 0
log_format = "json"
[metrics]
port = {metrics}
[[server]]
name = "s1"
dip = "10.1.0.1"
[[server]]
name = "s2"
dip = "10.1.0.2"
[[pool]]
name = "web"
buckets = 256
[[service]]
name = "http"
vip = "192.0.2.1"
protocol = "tcp"
port = 80
pool = "web"
"""

LISTEN = """[listen]
address = "127.0.0.1"
port = {port}
token_file = "token"
certificate = "cert.pem"
private_key = "key.pem"
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


class Lbctl:
    """Runs `lbctl` with one controller's settings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings = directory / "control.toml"
        self.port = free_port()
        self.settings.write_text(SETTINGS.format(metrics=self.port))
        self.running: list[subprocess.Popen[str]] = []

    def arguments(self, *words: str) -> list[str]:
        program = "from lb.cli.main import main; main()"
        return [sys.executable, "-c", program, *words, "--config", str(self.settings)]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(*words), capture_output=True, text=True, timeout=30, check=False
        )

    def control(self, log: str = "log", *words: str) -> subprocess.Popen[str]:
        with (self.directory / log).open("w") as file:
            process = subprocess.Popen(
                self.arguments("control", *words), stderr=file, stdout=file, text=True
            )
        self.running.append(process)
        return process

    def events(self, log: str = "log") -> list[str]:
        lines = (self.directory / log).read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def has_said(self, event: str, times: int) -> bool:
        return self.events().count(event) == times

    def line(self, event: str, number: int = -1, log: str = "log") -> dict[str, str]:
        """Return one of the lines with this event, by default the last."""
        lines = (self.directory / log).read_text().splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        found: dict[str, str] = [line for line in parsed if line["event"] == event][number]
        return found

    def reload(self, process: subprocess.Popen[str], event: str = "settings read again") -> None:
        """Send SIGHUP and wait for the line with its result."""
        before = self.events().count(event)
        process.send_signal(signal.SIGHUP)
        wait_until(partial(self.has_said, event, before + 1), event)

    def listen(self) -> str:
        """Have the store served with a token and a certificate; return its URL."""
        port = free_port()
        write_token(self.directory)
        certificate(self.directory)
        with self.settings.open("a") as file:
            file.write(LISTEN.format(port=port))
        return f"https://127.0.0.1:{port}"

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
            return str(page.read().decode())


@pytest.fixture
def lbctl(tmp_path: Path) -> Iterator[Lbctl]:
    found = Lbctl(tmp_path)
    yield found
    for process in found.running:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def ended(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    return process.wait(10)


def test_a_life_drain_and_undrain_metrics_and_a_clean_end(lbctl: Lbctl, fleet: Fleet) -> None:
    process = lbctl.control()
    agents = [fleet.agent("s1"), fleet.agent("s2", connections=2)]
    wait_until(lambda: fleet.current() == {"s1": 128, "s2": 128}, "a table")
    assert "cannot probe: no server will be declared down" in lbctl.events()

    refused = lbctl.run("drain", "s9")
    assert refused.returncode == 2
    assert "no server is called 's9'; there are: s1, s2" in refused.stderr
    late = lbctl.run("drain", "s2", "--wait", "--timeout", "1.5")
    assert late.returncode == 4
    assert "s2 still has 2 connections after 1.5 s" in late.stderr
    agents[1].connections = 0
    done = lbctl.run("drain", "s2", "--wait", "--timeout", "20")
    assert (done.returncode, done.stdout) == (0, "s2 is drained\n")

    shown = json.loads(lbctl.run("servers", "--json").stdout)
    s2 = shown["servers"][1]
    assert (s2["state"], s2["wished_draining"], s2["buckets"]) == ("draining", True, {"web": 0})
    assert all(document["settled"] for document in shown["documents"])
    assert "draining (drain requested)" in lbctl.run("servers").stdout

    metrics = lbctl.metrics()
    assert 'bucket_brigade_controller_server_state{server="s2",state="draining"} 1.0' in metrics
    assert 'bucket_brigade_controller_buckets{pool="web",server="s1"} 256.0' in metrics
    assert 'bucket_brigade_controller_settled{kind="table/web"} 1.0' in metrics
    assert "# TYPE bucket_brigade_controller_probes_sent_total counter" in metrics

    assert lbctl.run("undrain", "s2").returncode == 0
    wait_until(lambda: fleet.current() == {"s1": 128, "s2": 128}, "even again")
    assert ended(process, signal.SIGTERM) == 0
    assert lbctl.events()[-1] == "stopped"


def test_settings_are_read_again_and_bad_ones_change_nothing(lbctl: Lbctl, fleet: Fleet) -> None:
    process = lbctl.control()
    for name in ("s1", "s2", "s3"):
        fleet.agent(name)
    wait_until(lambda: len(fleet.current()) == 2, "a table")
    good = lbctl.settings.read_text()
    bads = (good.replace("port = 80", "port = 0"), good.replace("256", "512"), "x =")
    for refusals, bad in enumerate(bads, 1):
        lbctl.settings.write_text(bad)
        process.send_signal(signal.SIGHUP)
        wait_until(partial(lbctl.has_said, "settings not changed", refusals), "refused")
    assert process.poll() is None
    lbctl.settings.write_text(good + '[[server]]\nname = "s3"\ndip = "10.1.0.3"\n')
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(fleet.current()) == 3, "three servers")
    assert ended(process, signal.SIGTERM) == 0


def test_the_result_of_each_reload_is_one_line_and_a_metric(lbctl: Lbctl) -> None:
    process = lbctl.control()
    wait_until((lbctl.directory / "store/settings/accepted.json").exists, "it runs")
    good = lbctl.settings.read_text()
    lbctl.settings.write_text(good.replace("port = 80", "port = 0"))
    for number in range(7):  # a rate limit would hide the sixth
        lbctl.reload(process, "settings not changed")
        assert "service[1].port: must be 1 to 65535" in lbctl.line("settings not changed")["reason"]
        assert lbctl.events().count("settings not changed") == number + 1
    reloads = "bucket_brigade_controller_settings_reloads_total"
    assert f'{reloads}{{result="refused"}} 7.0' in lbctl.metrics()
    assert f'{reloads}{{result="ok"}} 0.0' in lbctl.metrics()
    assert "bucket_brigade_controller_settings_accepted 0.0" in lbctl.metrics()

    changed = good.replace("tick_seconds = 0.1", "tick_seconds = 0.2")
    lbctl.settings.write_text(changed.replace(f"port = {lbctl.port}", "port = 9"))
    for change in ("tick_seconds: 0.1 -> 0.2", "nothing"):
        lbctl.reload(process)
        line = lbctl.line("settings read again")
        assert (line["changed"], line["needs_a_restart"]) == (change, "metrics")
        assert line["level"] == "warning"
    assert f'{reloads}{{result="ok"}} 2.0' in lbctl.metrics()
    assert "bucket_brigade_controller_settings_accepted 1.0" in lbctl.metrics()
    assert "bucket_brigade_controller_settings_restart_needed 1.0" in lbctl.metrics()
    lbctl.settings.write_text(changed)
    lbctl.reload(process)
    assert lbctl.line("settings read again")["level"] == "info"
    assert ended(process, signal.SIGTERM) == 0


def test_a_new_token_and_a_new_certificate_are_used_after_a_reload(lbctl: Lbctl) -> None:
    url = lbctl.listen()
    process = lbctl.control()
    store = lbctl.directory / "store/settings/accepted.json"
    wait_until(store.exists, "it runs")
    new = lbctl.directory / "new"
    new.mkdir()
    old_authority = Path(shutil.copy(lbctl.directory / "cert.pem", new / "old.pem"))
    wait_until(lambda: refusal(url, TOKEN, old_authority) is None, "it serves")

    def reload_with(token: str, *, certified: Path | None = None) -> str:
        write_token(lbctl.directory, token)
        if certified:
            for name in ("cert.pem", "key.pem"):
                shutil.copy(certified / name, lbctl.directory / name)
        lbctl.reload(process)
        return lbctl.line("settings read again")["changed"]

    changed = reload_with(f"{NEW}\n{TOKEN}")
    assert changed == "listen.token_file: the content of the file changed"
    assert [refusal(url, token, old_authority) for token in (TOKEN, NEW)] == [None, None]
    reload_with(NEW)
    assert "refused the token" in str(refusal(url, TOKEN, old_authority))
    assert refusal(url, NEW, old_authority) is None

    new_authority, _ = certificate(new)
    changed = reload_with(NEW, certified=new)
    assert "listen.certificate: the content" in changed
    assert "listen.private_key: the content" in changed
    assert refusal(url, NEW, new_authority) is None
    assert "certificate" in str(refusal(url, NEW, old_authority))

    (lbctl.directory / "token").chmod(0o644)
    lbctl.reload(process, "settings not changed")
    assert "chmod 600" in lbctl.line("settings not changed")["reason"]
    assert refusal(url, NEW, new_authority) is None
    assert ended(process, signal.SIGTERM) == 0
    log = (lbctl.directory / "log").read_text()
    assert TOKEN not in log
    assert NEW not in log


def test_a_certificate_that_ends_soon_is_shown_until_it_is_replaced(lbctl: Lbctl) -> None:
    lbctl.listen()
    certificate(lbctl.directory, days=3)
    process = lbctl.control()
    wait_until(lambda: "a certificate ends soon" in lbctl.events(), "it is logged")
    detail = lbctl.line("a certificate ends soon")["detail"]
    assert detail.startswith("the certificate of listen.certificate ends in 2 days: replace it")
    assert f"TROUBLE: {detail}" in lbctl.run("servers").stdout
    name = 'bucket_brigade_controller_certificate_end_timestamp_seconds{file="listen.certificate"}'
    first = next(line for line in lbctl.metrics().splitlines() if line.startswith(name))
    certificate(lbctl.directory, days=300)
    assert first in lbctl.metrics(), "the old one is in use"
    lbctl.reload(process)
    wait_until(lambda: "a certificate ends soon: over" in lbctl.events(), "over")
    assert first not in lbctl.metrics()
    assert "TROUBLE" not in lbctl.run("servers").stdout
    assert ended(process, signal.SIGTERM) == 0


@pytest.mark.parametrize(
    "fault", ["fixed key", "not TOML", "unknown key", "token", "certificate", "private key"]
)
def test_a_refused_file_keeps_the_last_good_settings_over_a_restart(
    lbctl: Lbctl, fault: str
) -> None:
    url = lbctl.listen()
    first = lbctl.control("first")
    wait_until(lambda: refusal(url, TOKEN, lbctl.directory / "cert.pem") is None, "it serves")
    wait_until((lbctl.directory / "store/documents/cluster/1.json").exists, "published")
    good = lbctl.settings.read_text()
    authority = Path(shutil.copy(lbctl.directory / "cert.pem", lbctl.directory / "ca.pem"))
    bad = {
        "fixed key": good.replace("256", "512"),
        "not TOML": good + "x =",
        "unknown key": good.replace("buckets", "bucket"),
    }
    lbctl.settings.write_text(bad.get(fault, good))
    if fault == "token":
        (lbctl.directory / "token").chmod(0o640)
    elif fault not in bad:
        name = "cert.pem" if fault == "certificate" else "key.pem"
        (lbctl.directory / name).write_text("")
    first.kill()
    first.wait(10)

    process = lbctl.control()
    wait_until(lambda: refusal(url, TOKEN, authority) is None, "it serves as before")
    wait_until(lambda: "settings refused: the last good ones are in use" in lbctl.events(), "said")
    assert "bucket_brigade_controller_settings_last_good 1.0" in lbctl.metrics()
    if fault in ("not TOML", "unknown key"):
        shown = lbctl.run("servers")
        assert (shown.returncode, "cluster generation" in shown.stdout) == (0, True), shown
        assert "warning: the last good settings are in use, not the file: " in shown.stderr
    lbctl.reload(process, "settings not changed")
    lbctl.settings.write_text(good.replace("tick_seconds = 0.1", "tick_seconds = 0.2"))
    write_token(lbctl.directory, NEW)
    certificate(lbctl.directory)
    lbctl.reload(process)
    assert lbctl.line("settings read again")["changed"].startswith("tick_seconds: 0.1 -> 0.2")
    assert "bucket_brigade_controller_settings_last_good 0.0" in lbctl.metrics()
    assert refusal(url, NEW, lbctl.directory / "cert.pem") is None
    assert "refused the token" in str(refusal(url, TOKEN, lbctl.directory / "cert.pem"))
    assert ended(process, signal.SIGTERM) == 0


def refusal(url: str, token: str, authority: Path) -> StoreError | None:
    """Ask a store for its documents; return why it does not answer."""
    store = HttpStore(url, token, authority)
    try:
        store.kinds()
    except StoreError as error:
        return error
    finally:
        store.close()
    return None


def test_one_leads_and_another_takes_over(lbctl: Lbctl, fleet: Fleet) -> None:
    first = lbctl.control("first")
    wait_until(lambda: "leading" in lbctl.events("first"), "the first leads")
    second = lbctl.control("second")
    wait_until(lambda: "standing by" in lbctl.events("second"), "the second stands by")
    fleet.agent("s1")
    fleet.agent("s2")
    wait_until(lambda: len(fleet.current()) == 2, "a table")
    before = dict(fleet.published.generations())
    first.kill()
    wait_until(lambda: "leading" in lbctl.events("second"), "the second leads")
    fleet.store.request_drain("s1", requested=True)
    wait_until(lambda: fleet.current() == {"s2": 256}, "the second works")
    assert fleet.published.generations()["table/web"] == before["table/web"] + 2
    assert ended(second, signal.SIGTERM) == 0


def test_ending_while_standing_by(lbctl: Lbctl) -> None:
    lbctl.control("first")
    wait_until(lambda: "leading" in lbctl.events("first"), "the first leads")
    second = lbctl.control("second")
    wait_until(lambda: "standing by" in lbctl.events("second"), "the second stands by")
    assert ended(second, signal.SIGINT) == 130


def test_agents_reach_the_store_over_http(lbctl: Lbctl, fleet: Fleet) -> None:
    port = free_port()
    token = lbctl.directory / "token"
    token.touch(mode=0o600)
    token.write_text("a-token-of-some-length-0123456789\n")
    with lbctl.settings.open("a") as file:
        file.write(f'[listen]\naddress = "127.0.0.1"\nport = {port}\ntoken_file = "token"\n')
    process = lbctl.control()
    wait_until(lambda: "leading" in lbctl.events(), "leading")
    wait_until(lambda: fleet.cluster().generation > 0, "a cluster document")
    store = open_agent_store(f"http://127.0.0.1:{port}", token)
    try:
        assert store.kinds() == {"cluster": 1}
        key_id = fleet.cluster().pools[0].key_id
        assert len(store.key(key_id)) == 16
    finally:
        store.close()
    assert ended(process, signal.SIGTERM) == 0
    log = (lbctl.directory / "log").read_text()
    assert fleet.store.key(key_id).hex() not in log
    assert "a-token-of-some" not in log


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("port = 80", "port = 0", "service[1].port: must be 1 to 65535"),
        ("buckets = 256", "bucket = 256", "pool[1].bucket: unknown key; did you mean 'buckets'?"),
    ],
)
def test_wrong_settings_are_one_line_and_code_2(
    lbctl: Lbctl, old: str, new: str, line: str
) -> None:
    lbctl.settings.write_text(lbctl.settings.read_text().replace(old, new))
    for command in (("control",), ("drain", "s1"), ("servers",)):
        done = lbctl.run(*command)
        assert done.returncode == 2
        assert line in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_taken_metrics_port_is_one_line(lbctl: Lbctl) -> None:
    with socket.create_server(("127.0.0.1", lbctl.port)):
        done = lbctl.run("control")
    assert done.returncode == 1
    assert "metrics cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_seed_refuses_a_store_in_use(lbctl: Lbctl) -> None:
    process = lbctl.control()
    wait_until((lbctl.directory / "store/documents/cluster/1.json").exists, "published")
    assert ended(process, signal.SIGTERM) == 0
    done = lbctl.run("control", "--seed", str(lbctl.directory))
    assert done.returncode == 1
    assert "--seed fills an empty store" in done.stderr
