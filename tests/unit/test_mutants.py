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
from tests.mutants.catalogue import CatalogueError, Mutant, load_catalogue
from tests.mutants.runner import GIT, ROOT, TrialError, check_patch, check_shadowing
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
""",
}
MINUS = ("    return a + b\n", "    return a - b\n")
NONSENSE = ("def add(a, b):\n", "def add(a, b:\n")


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

    def attempt(self, change: tuple[str, str], *tests: str) -> Verdict:
        return self.trials.attempt(mutant(self.root, change, *tests))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    root = make_tiny(tmp_path_factory.mktemp("mutants") / "tiny")
    return Shared(root, Trials(root))


def mutant(root: Path, change: tuple[str, str], *tests: str, name: str = "fault") -> Mutant:
    """A mutant of the tiny project; its patch is made as a person would make it."""
    source = root / "calc/__init__.py"
    good = source.read_text()
    source.write_text(good.replace(*change))
    words = [*GIT, "diff", "-U2"]
    patch = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True).stdout
    source.write_text(good)
    path = root / f"tests/mutants/patches/{name}.patch"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(patch)
    return Mutant(name, "sums are wrong", path, tuple(f"tests/test_calc.py::{t}" for t in tests))


@pytest.mark.parametrize("test", ["test_add", "TestMore::test_add[5]", "test_program"])
def test_a_catch_is_told_by_the_name_that_pytest_takes(shared: Shared, test: str) -> None:
    verdict = shared.attempt(MINUS, test)
    assert (verdict.caught_by, verdict.problem) == (f"tests/test_calc.py::{test}", "")
    source = (shared.root / "calc/__init__.py").read_text()
    assert source == FILES["calc/__init__.py"].lstrip(), "only the copy has the fault"


@pytest.mark.parametrize(
    ("change", "test"),
    [
        (MINUS, "test_half"),
        (MINUS, "test_with_fixture"),
        (NONSENSE, "test_add"),
        (("import_nothing", ""), "test_add"),
    ],
    ids=["nobody looks", "a fixture breaks", "it does not load", "an empty patch"],
)
def test_what_is_no_catch(shared: Shared, change: tuple[str, str], test: str) -> None:
    verdict = shared.attempt(change, test)
    assert verdict.caught_by is None
    assert verdict.problem.startswith(("SURVIVED", "the patch DOES NOT APPLY"))


@pytest.mark.parametrize("tests", [["test_red"], ["test_add", "test_skipped"], ["test_gone"]])
def test_without_the_patch_all_must_be_green(shared: Shared, tests: list[str]) -> None:
    verdict = shared.attempt(MINUS, *tests)
    assert verdict.caught_by is None
    assert verdict.problem.startswith("NOT GREEN")


def test_many_at_a_time_are_judged_as_each_alone(tiny: Path) -> None:
    good = mutant(tiny, MINUS, "test_add", name="good")
    missed = mutant(tiny, MINUS, "test_half", name="missed")
    red = mutant(tiny, MINUS, "test_red", name="red")
    for chosen in ([good, missed], [good, missed, red]):
        verdicts = {verdict.name: verdict for verdict in Trials(tiny).attempt_all(chosen)}
        assert verdicts["good"].caught_by == "tests/test_calc.py::test_add"
        assert verdicts["missed"].problem.startswith("SURVIVED")
    assert verdicts["red"].problem.startswith("NOT GREEN")


def test_a_patch_that_does_not_apply_is_no_catch(tiny: Path) -> None:
    found = mutant(tiny, MINUS, "test_add")
    source = tiny / "calc/__init__.py"
    source.write_text(source.read_text().replace("a + b", "b + a"))
    verdict = Trials(tiny).attempt(found)
    assert (verdict.caught_by, verdict.problem) == (None, "the patch DOES NOT APPLY")
    assert "patch does not apply" in verdict.output


def test_tests_that_would_not_run_on_the_copy_are_a_fault_of_the_runner(tmp_path: Path) -> None:
    # a package of the standard library's name wins over nothing: frozen modules come first
    for name in ("calc", "zipimport"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    with pytest.raises(TrialError, match="zipimport is not imported from the copy"):
        check_shadowing(tmp_path)


def test_the_command_ends_with_one_line_of_json(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = tiny / "tests/mutants/mutants.toml"
    rows = []
    for name, test in (("noticed", "test_add"), ("missed", "test_half")):
        found = mutant(tiny, MINUS, test, name=name)
        rows.append(f"[[mutant]]\nname = '{name}'\nfault = 'x'\ntests = {list(found.tests)}\n")
    catalogue.write_text("".join(rows))
    assert command.main([], tiny) == 1
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == {
        "mutants": {"noticed": "tests/test_calc.py::test_add", "missed": None}
    }
    assert "left: missed" in lines
    assert command.main(["noticed"], tiny) == 0
    assert command.main(["nobody"], tiny) == 2
    catalogue.write_text(rows[0])
    assert command.main([], tiny) == 2
    assert "missed.patch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[[mutant]]\nname = 'a'\ntests = ['t']\n", "has the keys"),
        ("[[mutant]]\nname = 'a'\nfault = 'f'\ntests = []\n", "no tests"),
        ("[[mutant]]\nname = 'a'\nfault = 'f'\ntests = ['t']\n", "entry without patch"),
        ("[[mutant]]\nname = 'a'\nfault = 'f'\ntests = ['t']\n" * 2, "two mutants"),
    ],
)
def test_a_wrong_catalogue_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "mutants.toml").write_text(text)
    with pytest.raises(CatalogueError, match=says):
        load_catalogue(tmp_path / "mutants.toml")


MUTANTS = load_catalogue()


@pytest.mark.parametrize("found", MUTANTS, ids=lambda m: m.name)
def test_every_patch_applies_to_the_tree_as_it_is(found: Mutant) -> None:
    refused = check_patch(ROOT, found.patch)
    assert refused is None, f"make the fault anew, see tests/mutants/__init__.py: {refused}"


@pytest.mark.parametrize("found", MUTANTS, ids=lambda m: m.name)
def test_every_selection_names_tests_that_exist(found: Mutant) -> None:
    for selected in found.tests:
        file, _, name = selected.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name.partition("[")[0] in functions | {""}, selected
