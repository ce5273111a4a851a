"""The last good settings on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.errors import ConfigError
from controlplane.domain.settings_changes import Accepted
from controlplane.store.saved_settings import ACCEPTED, SavedSettings, key_of_text, read_contents

GOOD = Accepted({"cap": 1.5, "listen": {"token_file": "/t"}}, {"listen.token_file": b"\xff\n"})


def test_what_was_saved_is_loaded_and_its_secrets_are_private(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path, tmp_path / "control.toml")
    assert saved.load() is None
    saved.save(GOOD)
    assert saved.load() == GOOD
    copy = tmp_path / "settings/listen.token_file"
    assert saved.with_copies(GOOD) == {"cap": 1.5, "listen": {"token_file": str(copy)}}
    assert copy.read_bytes() == b"\xff\n"
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"settings": 0o700, ACCEPTED: 0o600, "listen.token_file": 0o600}
    saved.save(Accepted({}))
    assert not copy.exists(), "an old secret is not kept"


def test_the_settings_of_another_file_are_not_used(tmp_path: Path) -> None:
    SavedSettings(tmp_path, tmp_path / "a.toml").save(GOOD)
    assert SavedSettings(tmp_path, tmp_path / "b.toml").load() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_damaged_settings_are_one_line(tmp_path: Path, text: str) -> None:
    saved = SavedSettings(tmp_path, tmp_path / "control.toml")
    saved.save(GOOD)
    (tmp_path / "settings" / ACCEPTED).write_text(text)
    with pytest.raises(ConfigError, match="damaged: remove it"):
        saved.load()


def test_settings_that_others_can_read_are_refused(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path, tmp_path / "control.toml")
    saved.save(GOOD)
    (tmp_path / "settings" / ACCEPTED).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        saved.load()


def test_a_file_that_is_named_and_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"x")
    assert read_contents({"a": tmp_path / "t", "b": None}) == {"a": b"x"}
    with pytest.raises(ConfigError, match=r"ca_file: cannot read .*: No such file"):
        read_contents({"ca_file": tmp_path / "absent"})


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ('store = "file:/a"\n', "file:/a"),
        ("x =\n  store='file:/a' # here\n[", "file:/a"),
        ('[listen]\nstore = "file:/a"\n', "default"),
        ('other_store = "file:/a"\nstore = 1\n', "default"),
    ],
)
def test_the_store_is_found_in_a_file_that_is_not_valid(
    tmp_path: Path, text: str, store: str
) -> None:
    (tmp_path / "control.toml").write_text(text)
    assert key_of_text(tmp_path / "control.toml", "store", "default") == store
    assert key_of_text(tmp_path / "absent", "store", "default") == "default"
