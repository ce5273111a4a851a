"""The commit-msg hook: subjects start with the part of the project that a commit is about."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/commit-subject"


def check(folder: Path, message: str) -> subprocess.CompletedProcess[str]:
    path = folder / "COMMIT_EDITMSG"
    path.write_text(message, encoding="utf-8")
    return subprocess.run([SCRIPT, path], capture_output=True, text=True, check=False)


def prefixes() -> list[str]:
    """The prefixes that CONTRIBUTING.md lists under "Commits"."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"`([a-z]+): `", text.partition("\n## Commits\n")[2])


@pytest.mark.parametrize("prefix", prefixes())
def test_every_prefix_that_contributing_lists_is_accepted(tmp_path: Path, prefix: str) -> None:
    assert check(tmp_path, f"{prefix}: what changed\n").returncode == 0


def test_no_other_prefix_is_accepted(tmp_path: Path) -> None:
    accepted = re.search(r"^PREFIXES='(.*)'$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert accepted
    assert accepted[1].split("|") == prefixes()


@pytest.mark.parametrize(
    "message",
    [
        "lb: one\n\nand more: about it\n",
        "\n\n# Please enter the commit message\nlb: after blank lines and comments\n",
        "Merge branch 'topic'\n",
        'Revert "lb: one"\n',
        "fixup! lb: one\n",
        "squash! lb: one\n",
    ],
)
def test_accepted(tmp_path: Path, message: str) -> None:
    assert check(tmp_path, message).returncode == 0


@pytest.mark.parametrize(
    "message",
    [
        "agent: not a part that has a prefix\n",
        "what changed\n",
        "Lb: upper case\n",
        "lb:no space\n",
        "lb : a space before the colon\n",
        "lb: \n",
        "lb\n",
        "lb, cli: two parts\n",
        "feat(lb): another convention\n",
        "Merged something\n",
        "# only a comment\n",
        "what changed\n\nlb: in the body\n",
        "",
    ],
)
def test_refused(tmp_path: Path, message: str) -> None:
    done = check(tmp_path, message)
    assert done.returncode == 1
    assert "must start with" in done.stderr
    assert "bpf:, lb:, cli:" in done.stderr


def test_the_hook_is_configured_for_commit_messages() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    hook = text.partition("- id: commit-subject\n")[2].partition("- id:")[0]
    assert "entry: scripts/commit-subject\n" in hook
    assert "stages: [commit-msg]\n" in hook
