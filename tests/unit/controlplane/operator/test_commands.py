"""The commands beside the controller: what they refuse, and the progress that they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table as RichTable

import lb.cli.main as cli
from controlplane.decide.views import FleetView
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import CLUSTER
from controlplane.operator.drain import DrainProgress, progress
from controlplane.publish.published import Published
from controlplane.store.contract import Version
from controlplane.store.file.store import FileStore
from lb.cli._show import show_whole
from lb.cli.drain import Progress

SETTINGS = """
store = "file:store"
[[server]]
name = "s1"
dip = "10.1.0.1"
[[pool]]
name = "web"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "control.toml"
    path.write_text(SETTINGS)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["servers"],
        ["drain", "s1"],
        ["undrain", "s1"],
        ["why", "s1"],
        ["plan", "down", "s1"],
        ["history"],
    ],
)
def test_a_store_that_is_not_there_is_refused_and_not_made(
    settings: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, "--config", str(settings)]) == 5
    assert "there is no store" in capsys.readouterr().err
    assert not (settings.parent / "store").exists()


def test_in_a_store_that_no_controller_has_used_nobody_is_drained(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings.parent / "store").mkdir(mode=0o700)
    words = ["drain", "s1", "--wait", "--timeout", "0.1", "--config", str(settings)]
    assert cli.run(words) == 4
    assert "the controller has not acted yet" in capsys.readouterr().err
    assert not progress("s1", {}, {}, FleetView()).done
    assert cli.run(["servers", "--config", str(settings)]) == 0
    assert "lbctl control has published nothing here" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["drain", "undrain"])
def test_an_unknown_server_is_answered_with_the_closest_and_a_remedy(
    settings: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings.parent / "store").mkdir(mode=0o700)
    settings.write_text(SETTINGS.replace('"s1"', '"front1"'))
    assert cli.run([command, "frnt1", "--config", str(settings)]) == 2
    error = capsys.readouterr().err
    assert "no server is called 'frnt1'; did you mean 'front1'? there are: front1; " in error
    assert "[[server]]" in error


def test_who_waits_is_told_of_each_change_but_not_all_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    progress_line = Progress("s1", lambda: now[0])
    for second, buckets in ((0.0, 9), (1.9, 8), (2.0, 7), (2.5, 6), (4.5, 7), (5.0, 5), (9.0, 5)):
        now[0] = second
        progress_line(DrainProgress(buckets, (), 1))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["7", "5"]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (DrainProgress(7, (), 2), "has 7 buckets and 2 connections"),
        (DrainProgress(0, (), 2), "has 2 connections"),
        (DrainProgress(0, (), None), "has an unknown number of connections"),
        (
            DrainProgress(0, ("s2",), 0),
            "has 0 connections, not using the newest table yet: s2",
        ),
    ],
)
def test_progress_names_only_what_is_still_missing(found: DrainProgress, text: str) -> None:
    assert str(found) == text


def test_a_request_without_a_controller_warns_that_nobody_acts(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["s1", "--config", str(settings)]
    (settings.parent / "store").mkdir(mode=0o700)
    assert cli.run(["drain", *config]) == 0
    assert "no controller leads this store" in capsys.readouterr().err
    assert cli.run(["undrain", *config]) == 0
    assert "no controller leads this store" in capsys.readouterr().err
    with FileStore(settings.parent / "store").lead("me"):
        assert cli.run(["drain", *config]) == 0
    assert capsys.readouterr().err == ""


def test_a_drain_of_a_server_that_the_settings_no_longer_have_can_be_cancelled(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or the server would be drained if it were added again."""
    config = ["--config", str(settings)]
    (settings.parent / "store").mkdir(mode=0o700)
    FileStore(settings.parent / "store").request_drain("s9", requested=True)
    assert cli.run(["undrain", "s9", *config]) == 0
    assert "no [[server]] of the settings has this name" in capsys.readouterr().out
    assert cli.run(["undrain", "s9", *config]) == 2
    assert "no server is called 's9'" in capsys.readouterr().err


def test_an_undrain_without_a_drain_has_nothing_to_cancel(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings.parent / "store").mkdir(mode=0o700)
    assert cli.run(["undrain", "s1", "--config", str(settings)]) == 0
    assert "no drain of s1 is requested" in capsys.readouterr().out


def test_a_document_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    store.publish(Version(CLUSTER, 1, b"{"))
    with pytest.raises(DocumentError, match="cluster generation 1 in the store: it is not JSON"):
        Published(store).refresh()
    store.close()


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table = RichTable("name", "state", box=None)
    table.add_row("n" * 60, "s" * 60)
    show_whole(table, Console(width=40))
    heading, row = capsys.readouterr().out.splitlines()
    assert (heading.split(), row.split()) == (["name", "state"], ["n" * 60, "s" * 60])
