"""The mutants' runner, tried on a tiny project, and the catalogue held against the present tree."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutants import __main__ as command
from tests.mutants.catalogue import CatalogueError, Change, Mutant, load_catalogue
from tests.mutants.changes import MismatchError, apply_changes, changed_files
from tests.mutants.runner import GIT, ROOT, TrialError, check_shadowing
from tests.mutants.trial import Trials, Verdict

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git: apt install git")

FILES = {
    "calc/__init__.py": """
def add(a, b):
    return a + b


def half(a):
    return a / 2
""",
    "tests/test_calc.py": """
import subprocess
import sys

import pytest

import calc


@pytest.fixture
def four():
    return {4: "four"}[calc.add(2, 2)]


def test_add():
    assert calc.add(2, 2) == 4


def test_half():
    assert calc.half(0) == 0


class TestMore:
    @pytest.mark.parametrize("a", [0, 5])
    def test_add(self, a):
        assert calc.add(a, 2) == a + 2


def test_with_fixture(four):
    assert four


def test_program(tmp_path):
    code = "import calc; print(calc.add(2, 2))"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert run.stdout == b"4\\n"


def test_red():
    assert calc.add(2, 2) == 5


def test_skipped():
    pytest.skip("not today")


def test_skips_itself():
    if calc.add(2, 2) != 4:
        pytest.skip("this machine cannot add")
""",
}
SOURCE = "calc/__init__.py"
MINUS = Change(SOURCE, "a + b", "a - b")
NONSENSE = Change(SOURCE, "def add(a, b):", "def add(a, b:")
NOT_THERE = Change(SOURCE, "b + a", "b - a")


def make_tiny(root: Path) -> Path:
    """Make a project of one module, tracked by git."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run([*GIT, *words], cwd=root, check=True)
    return root


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny(tmp_path / "tiny")


@dataclass(frozen=True)
class Shared:
    """A project that no test changes, and its trials, which remember what is green."""

    root: Path
    trials: Trials

    def attempt(self, change: Change, *tests: str) -> Verdict:
        return self.trials.attempt(mutant(change, *tests))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    root = make_tiny(tmp_path_factory.mktemp("mutants") / "tiny")
    return Shared(root, Trials(root))


def mutant(change: Change, *tests: str, name: str = "fault") -> Mutant:
    """A mutant of the tiny project."""
    selection = tuple(f"tests/test_calc.py::{test}" for test in tests)
    return Mutant(name, "sums are wrong", (change,), selection)


@pytest.mark.parametrize("test", ["test_add", "TestMore::test_add[5]", "test_program"])
def test_a_catch_is_told_by_the_name_that_pytest_takes(shared: Shared, test: str) -> None:
    verdict = shared.attempt(MINUS, test)
    assert (verdict.caught_by, verdict.problem) == (f"tests/test_calc.py::{test}", "")
    source = (shared.root / SOURCE).read_text()
    assert source == FILES[SOURCE].lstrip(), "only the copy has the fault"


@pytest.mark.parametrize(
    ("change", "test"),
    [(MINUS, "test_half"), (MINUS, "test_with_fixture"), (NONSENSE, "test_add")],
    ids=["nobody looks", "a fixture breaks", "it does not load"],
)
def test_what_is_no_catch(shared: Shared, change: Change, test: str) -> None:
    verdict = shared.attempt(change, test)
    assert verdict.caught_by is None
    assert verdict.problem.startswith("SURVIVED")


@pytest.mark.parametrize("more", [[], ["test_add"], ["test_half"]])
def test_a_test_that_skips_itself_because_of_the_fault_is_no_catch(
    shared: Shared, more: list[str]
) -> None:
    verdict = shared.attempt(MINUS, "test_skips_itself", *more)
    assert (verdict.caught_by, verdict.problem) == (
        None,
        "SKIPPED with the fault, not without it: tests/test_calc.py::test_skips_itself",
    )


@pytest.mark.parametrize("tests", [["test_red"], ["test_add", "test_skipped"], ["test_gone"]])
def test_without_the_fault_all_must_be_green(shared: Shared, tests: list[str]) -> None:
    verdict = shared.attempt(MINUS, *tests)
    assert verdict.caught_by is None
    assert verdict.problem.startswith("NOT GREEN")


@pytest.mark.timeout(300)  # it runs pytest a dozen times
def test_many_at_a_time_are_judged_as_each_alone(tiny: Path) -> None:
    good = mutant(MINUS, "test_add", name="good")
    missed = mutant(MINUS, "test_half", name="missed")
    red = mutant(MINUS, "test_red", name="red")
    for chosen in ([good, missed], [good, missed, red]):
        verdicts = {verdict.name: verdict for verdict in Trials(tiny).attempt_all(chosen)}
        assert verdicts["good"].caught_by == "tests/test_calc.py::test_add"
        assert verdicts["missed"].problem.startswith("SURVIVED")
    assert verdicts["red"].problem.startswith("NOT GREEN")


def test_a_row_that_does_not_match_is_no_catch(shared: Shared) -> None:
    verdict = shared.attempt(NOT_THERE, "test_add")
    assert (verdict.caught_by, verdict.problem) == (None, "the row DOES NOT MATCH the tree")
    assert verdict.output == "`old` is not in calc/__init__.py: b + a"


def test_tests_that_would_not_run_on_the_copy_are_a_fault_of_the_runner(tmp_path: Path) -> None:
    # a package of the standard library's name wins over nothing: frozen modules come first
    for name in ("calc", "zipimport"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    with pytest.raises(TrialError, match="zipimport is not imported from the copy"):
        check_shadowing(tmp_path)


def row(name: str, test: str, old: str = "a + b") -> str:
    return (
        f"[[mutant]]\nname = '{name}'\nfault = 'x'\nfile = '{SOURCE}'\nold = '{old}'\n"
        f"new = 'a - b'\ntests = ['tests/test_calc.py::{test}']\n"
    )


def write_catalogue(root: Path, *rows: str) -> None:
    (root / "tests/mutants").mkdir(exist_ok=True)
    (root / "tests/mutants/mutants.toml").write_text("".join(rows))


def test_the_command_ends_with_one_line_of_json(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_catalogue(tiny, row("noticed", "test_add"), row("missed", "test_half"))
    assert command.main([], tiny) == 1
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == {
        "mutants": {"noticed": "tests/test_calc.py::test_add", "missed": None}
    }
    assert "left: missed" in lines
    assert command.main(["noticed"], tiny) == 0
    assert command.main(["nobody"], tiny) == 2
    assert "does not have nobody" in capsys.readouterr().out


def test_rows_that_do_not_match_are_listed_before_anything_runs(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("good", "test_add"), row("gone", "test_add", "b + a"), row("twice", "", "return a")]
    write_catalogue(tiny, *rows)
    for words in (["--check"], []):
        assert command.main(words, tiny) == 2
        assert capsys.readouterr().out.splitlines() == [
            "mutants.toml: 2 rows do not match the tree",
            "gone: `old` is not in calc/__init__.py: b + a",
            "twice: `old` is in calc/__init__.py more than once: return a",
        ]
    assert command.main(["--check", "good"], tiny) == 0
    assert capsys.readouterr().out == "1 rows match the tree\n"


def test_several_changes_are_made_at_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a b c\n")
    (tmp_path / "two").write_text("a\n")
    swap = [Change("one", "c", "a"), Change("one", "a", "c"), Change("two", "a\n", "")]
    apply_changes(tmp_path, swap)
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["c b a\n", ""]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([("one", "d", "x")], "is not in one: d"),
        ([("one", "aa", "x")], "is in one more than once: aa"),
        ([("one", "aab", "x"), ("one", "bc", "x")], "two changes of one overlap"),
        ([("one", "c", "x"), ("none", "c", "x")], "none does not exist"),
        ([("../secret", "c", "x")], "secret is outside the tree"),
        ([("/etc/passwd", "root", "x")], "/etc/passwd is outside the tree"),
        ([("link", "c", "x")], "link is outside the tree"),
    ],
)
def test_changes_that_cannot_be_made_change_nothing(
    tmp_path: Path, changes: list[tuple[str, str, str]], reason: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    files = {tree / "one": "aaabc\n", tmp_path / "secret": "c\n"}
    for path, text in files.items():
        path.write_text(text)
    (tree / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(MismatchError, match=reason):
        apply_changes(tree, [Change(*change) for change in changes])
    assert {path: path.read_text() for path in files} == files


PLAIN = "[[mutant]]\nname = 'a'\nfault = 'f'\nfile = 'x'\nold = 'o'\nnew = 'n'\ntests = ['t']\n"
SEVERAL = "[[mutant]]\nname = 'a'\nfault = 'f'\ntests = ['t']\n"
CHANGE = "[[mutant.change]]\nfile = 'x'\nold = 'o'\nnew = 'n'\n"


def test_a_row_has_one_change_or_a_list_of_them(tmp_path: Path) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(PLAIN + SEVERAL.replace("'a'", "'b'") + CHANGE + CHANGE)
    change = Change("x", "o", "n")
    found = [mutant.changes for mutant in load_catalogue(path)]
    assert found == [(change,), (change, change)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[[mutant]]\nname = 'a'\ntests = ['t']\n", "a: has the keys"),
        (PLAIN + CHANGE, "a: has the keys"),
        (SEVERAL + CHANGE.replace("old", "age"), "a: a change has the keys"),
        (SEVERAL + "change = []\n", "a: has no changes"),
        (PLAIN.replace("['t']", "[]"), "a: has no tests"),
        (PLAIN.replace("'o'", "''"), "a: `old` is empty"),
        (PLAIN.replace("'o'", "'n'"), "a: `new` is the same as `old`"),
        (PLAIN * 2, "a: two mutants have this name"),
    ],
)
def test_a_wrong_catalogue_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mutants.toml").write_text(text)
    with pytest.raises(CatalogueError, match=reason):
        load_catalogue(tmp_path / "mutants.toml")


MUTANTS = load_catalogue()


@pytest.mark.parametrize("found", MUTANTS, ids=lambda m: m.name)
def test_every_row_matches_the_tree_exactly_once(found: Mutant) -> None:
    changed_files(ROOT, found.changes)


@pytest.mark.parametrize("found", MUTANTS, ids=lambda m: m.name)
def test_every_selection_names_tests_that_exist(found: Mutant) -> None:
    for selected in found.tests:
        file, _, name = selected.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name.partition("[")[0] in functions | {""}, selected
