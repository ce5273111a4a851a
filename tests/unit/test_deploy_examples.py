"""deploy/examples: files that can be copied are valid, and fit each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import lb.cli.main as cli
from controlplane.settings.load import load_control_config
from lb.agent.config import load_agent_config
from tests.needed import missing

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
HOOKS = ("announce", "withdraw")


@pytest.mark.parametrize("name", ["agent.toml", "control.toml"])
def test_check_accepts_the_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", str(EXAMPLES / name)]) == 0
    assert "valid settings" in capsys.readouterr().out


def test_the_settings_fit_each_other_and_name_the_hooks() -> None:
    agent = load_agent_config(EXAMPLES / "agent.toml")
    control = load_control_config(EXAMPLES / "control.toml")
    assert agent.dip in [server.dip for server in control.server if server.name == agent.name]
    assert control.listen is not None
    assert agent.store == f"https://{control.listen.address}:{control.listen.port}"
    assert agent.token_file == control.listen.token_file
    for hook, command in zip(HOOKS, (agent.on_ready, agent.on_withdraw), strict=True):
        assert f"Copy to {command[0]}, mode 0755" in (EXAMPLES / hook).read_text(encoding="utf-8")


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_are_executable_scripts(hook: str) -> None:
    assert (EXAMPLES / hook).stat().st_mode & 0o111 == 0o111
    subprocess.run(["sh", "-n", str(EXAMPLES / hook)], check=True)


def test_hooks_and_bird_use_one_table() -> None:
    texts = [(EXAMPLES / name).read_text(encoding="utf-8") for name in (*HOOKS, "bird.conf")]
    assert {number for text in texts for number in re.findall(r"table[= ](\d{4})", text)} == {
        "6090"
    }


def test_prometheus_accepts_the_alerts() -> None:
    if shutil.which("promtool") is None:
        missing("promtool is not installed (apt-get install prometheus)")
    command = ["promtool", "check", "rules", str(EXAMPLES / "alerts.yml")]
    subprocess.run(command, check=True, capture_output=True)


CERTIFICATE_ALERT = """
rule_files: [{rules}]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      - series: 'bucket_brigade_certificate_end_timestamp_seconds{{file="ca_file", instance="s1"}}'
        values: "1728000x480"
      - series: 'bucket_brigade_controller_certificate_end_timestamp_seconds{{file="x"}}'
        values: "{controller}x480"
    alert_rule_test:
      - eval_time: 143h
        alertname: BucketBrigadeCertificateEnds
        exp_alerts: [{early}]
      - eval_time: 145h
        alertname: BucketBrigadeCertificateEnds
        exp_alerts:
          - exp_labels: {{file: ca_file, instance: s1}}
          {late}
"""
"""The agent's ends after 20 days: the alert begins 14 days before, after 144 hours."""


@pytest.mark.parametrize(("controller", "alert"), [(10**10, ""), (86_400, "exp_labels: {file: x}")])
def test_a_certificate_that_ends_within_two_weeks_is_an_alert(
    tmp_path: Path, controller: int, alert: str
) -> None:
    if shutil.which("promtool") is None:
        missing("promtool is not installed (apt-get install prometheus)")
    test = tmp_path / "test.yml"
    early, late = (f"{{{alert}}}", f"- {alert}") if alert else ("", "")
    rules = EXAMPLES / "alerts.yml"
    test.write_text(
        CERTIFICATE_ALERT.format(rules=rules, controller=controller, early=early, late=late)
    )
    command = ["promtool", "test", "rules", str(test)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_about_metrics_that_exist() -> None:
    sources = "".join(
        (ROOT / path).read_text(encoding="utf-8")
        for path in ("lb/agent/report/metrics.py", "controlplane/controller/metrics.py")
    )
    alerts = (EXAMPLES / "alerts.yml").read_text(encoding="utf-8")
    names = set(re.findall(r"bucket_brigade_(?:controller_)?(\w+)", alerts))
    assert len(names) > 20
    spellings = {name: (f'"{name}"', f'"{name.removesuffix("_total")}"') for name in names}
    unknown = {n for n, written in spellings.items() if not any(w in sources for w in written)}
    assert unknown == set()
