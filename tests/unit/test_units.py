"""The systemd units against the exit codes of the programs: what may mend itself is retried."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from controlplane.domain.errors import BrigadeError, ConfigError, ExitCode, UsageError
from lb.agent.config import DEFAULT_STATE_DIR, AgentConfig

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
AGENT, CONTROLLER = "bucket-brigade-agent.service", "bucket-brigade-controller.service"
FINAL = {
    AGENT: {ExitCode.USAGE, ExitCode.REFUSED},
    CONTROLLER: {ExitCode.USAGE},  # it refuses nothing for safety
}
"""Exit codes after which only a person can help."""


def read(name: str) -> dict[str, list[str]]:
    """The values of each key of a unit, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


@pytest.mark.parametrize("name", FINAL)
def test_a_unit_retries_every_end_that_may_mend_itself(name: str) -> None:
    unit = read(name)
    assert unit["Restart"] == ["on-failure"], "a clean end is intended"
    (prevented,) = unit["RestartPreventExitStatus"]
    assert {int(code) for code in prevented.split()} == FINAL[name]
    assert unit["StartLimitIntervalSec"] == ["0"], "five quick ends would be the last ones"
    assert "SuccessExitStatus" not in unit
    assert "RestartForceExitStatus" not in unit


def test_the_limit_of_restarts_is_where_systemd_reads_it() -> None:
    for name in FINAL:
        head, _, _ = (DEPLOY / name).read_text(encoding="utf-8").partition("[Service]")
        assert "StartLimitIntervalSec=0" in head


def test_what_may_mend_itself_is_not_an_error_of_settings() -> None:
    assert BrigadeError("a store, an interface").exit_code not in FINAL[AGENT]
    assert ConfigError("a file").exit_code in FINAL[AGENT] & FINAL[CONTROLLER]
    assert UsageError("an option").exit_code in FINAL[AGENT] & FINAL[CONTROLLER]


def test_the_units_agree_on_what_they_may_read() -> None:
    """The agent sees all directories, so a clone or a token in a home directory works there."""
    assert "ProtectHome" not in read(AGENT)
    assert read(CONTROLLER)["ProtectHome"] == ["read-only"]
    starts = {name: read(name)["ExecStart"][0].split()[0] for name in FINAL}
    assert len(set(starts.values())) == 1


def test_the_agents_directories_are_those_that_its_unit_makes() -> None:
    unit = read(AGENT)
    assert [f"/var/lib/{unit['StateDirectory'][0]}"] == [DEFAULT_STATE_DIR]
    run_dir = AgentConfig.model_fields["run_dir"].default
    assert f"/run/{unit['RuntimeDirectory'][0]}" == str(run_dir)
    assert unit["RuntimeDirectoryPreserve"] == ["yes"], "the ready file stays with the routes"
    assert unit["TimeoutStartSec"] == ["infinity"], "an agent that waits has not failed"
