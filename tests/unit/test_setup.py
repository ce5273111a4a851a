"""Set-up: the lock, the scripts and the make targets, as far as they show without installing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
SCRIPTS = sorted([ROOT / ".ci" / "run", *(ROOT / "scripts").iterdir()])
TARGETS = ["help", "setup", "demo", "test", "vm", "lint", "fmt", "type", "bench", "mutants"]
TARGETS += ["fuzz", "libfuzzer", "clean"]


def locked_blocks() -> list[str]:
    text = re.sub(r"^\s*#.*\n", "", LOCK, flags=re.MULTILINE)
    return [block.strip() for block in re.split(r"\n(?=\S)", text) if block.strip()]


def test_every_locked_package_has_an_exact_version_and_hashes() -> None:
    blocks = locked_blocks()
    assert len(blocks) > 20
    for block in blocks:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", block), block
        assert "--hash=sha256:" in block, block


def test_lock_names_no_host_and_no_path() -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ |/", LOCK)


def test_lock_names_every_dependency_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:dependencies|dev) = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    wanted = {
        name for part in lists for name in re.findall(r'^\s+"([a-z0-9-]+)', part, re.MULTILINE)
    }
    locked = {block.split("==")[0] for block in locked_blocks()}
    assert {"click", "pytest"} <= wanted <= locked


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.suffix != ".sh"], ids=lambda p: p.name)
def test_scripts_are_executable_and_stop_at_errors(script: Path) -> None:
    assert script.stat().st_mode & 0o111 == 0o111
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n")
    assert re.search(r"^set -e?uo pipefail$", text, re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_its_targets(target: str) -> None:
    subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), target],
        check=True,
        capture_output=True,
    )


def test_make_alone_is_help() -> None:
    answer = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for target in TARGETS:
        assert f"make {target} " in answer


def test_without_root_set_up_prints_one_line_for_an_administrator(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    with (tmp_path / "scripts/lib.sh").open("a", encoding="utf-8") as library:
        library.write("can_be_root() { return 1; }\n")
    setup = tmp_path / "scripts/setup"
    text = setup.read_text(encoding="utf-8")
    setup.write_text(text.replace("/usr/bin/python3", "/none/python3", 1), encoding="utf-8")
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "apt-get").chmod(0o755)
    done = subprocess.run(
        ["bash", str(setup)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count(f"{tmp_path}/scripts/apt-install ") == 1
    assert " python3 " in done.stderr
    assert "apt-get" not in done.stderr, "which would start daemons"
    assert done.stderr.splitlines()[-1] == "set-up: nothing can run without /none/python3"


def shell(text: str) -> subprocess.CompletedProcess[str]:
    """Run shell text with the functions that the scripts share."""
    return subprocess.run(
        ["bash", "-euc", f"source {ROOT}/scripts/lib.sh; {text}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_what_takes_long_reports_that_it_still_runs() -> None:
    done = shell('PROGRESS_SECONDS=1; with_progress "fetching" sleep 2.5; echo over')
    lines = done.stderr.splitlines()
    assert lines
    assert all(re.fullmatch(r"set-up: fetching: [1-9] s so far", line) for line in lines)
    assert done.stdout == "over\n"
    failed = shell('with_progress "fetching" bash -c "exit 7" || echo "code $?"')
    assert (failed.stdout, failed.stderr) == ("code 7\n", "")
    ignoring = shell('trap "" INT TERM HUP; with_progress "installing" true; echo over')
    assert (ignoring.stdout, ignoring.stderr) == ("over\n", "")


def test_the_sizes_are_apts() -> None:
    text = (
        "The following NEW packages will be installed:\n  clang gcc\n"
        "Need to get 107 MB/157 MB of archives.\n"
        "After this operation, 946 MB of additional disk space will be used.\n"
    )
    done = shell(f"apt_sizes <<'END'\n{text}END")
    assert done.stdout == "to fetch: 107 MB/157 MB, on disk: 946 MB\n"


def test_quick_start_of_the_command() -> None:
    heavy = ["bcc", "numpy", "scapy", "pyroute2", "pydantic", "httpx2", "uvicorn"]
    code = (
        "import sys, lb.cli.main\n"
        "lb.cli.main.run(['--help'])\n"
        f"print('loaded:', [name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert answer.splitlines()[-1] == "loaded: []"
