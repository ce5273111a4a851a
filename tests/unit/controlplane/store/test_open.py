"""Stores by their URL, and the token file: every mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.errors import ConfigError
from controlplane.store.file.store import FileStore
from controlplane.store.http.client import HttpStore
from controlplane.store.http.token import read_tokens
from controlplane.store.open import open_agent_store, open_controller_store
from tests.unit.controlplane.store.conftest import TOKEN, write_token


def test_a_url_names_its_store(tmp_path: Path) -> None:
    store = open_agent_store(f"file:{tmp_path}/a")
    assert isinstance(store, FileStore)
    assert store.directory == tmp_path / "a"
    assert isinstance(open_controller_store(f"file:{tmp_path}/a"), FileStore)
    assert isinstance(open_agent_store("http://192.0.2.1:7000", write_token(tmp_path)), HttpStore)


@pytest.mark.parametrize(
    "url", ["", "file:", "file:relative", "etcd:host", "ftp://h", "/directory", "http://", "http:x"]
)
def test_what_is_no_store_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_agent_store(url, write_token(tmp_path))
    assert caught.value.exit_code == 2
    assert "use " in str(caught.value)


@pytest.mark.parametrize("url", ["http://192.0.2.1:1", "https://192.0.2.1", "file:x", "consul:"])
def test_a_controllers_store_is_a_directory(url: str) -> None:
    with pytest.raises(ConfigError, match="use file:"):
        open_controller_store(url)


def test_credentials_do_not_belong_in_a_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_agent_store("http://user:secret@192.0.2.1:1", write_token(tmp_path))
    assert "secret" not in str(caught.value)


def test_http_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="set token_file"):
        open_agent_store("http://192.0.2.1:7000")


def test_a_certificate_authority_that_is_not_there_is_refused(tmp_path: Path) -> None:
    token = write_token(tmp_path)
    (tmp_path / "empty.pem").write_text("")
    for ca_file in (tmp_path / "absent.pem", tmp_path / "empty.pem", token):
        with pytest.raises(ConfigError, match="ca_file"):
            open_agent_store("https://192.0.2.1:7000", token, ca_file)


def test_a_token_is_one_line(tmp_path: Path) -> None:
    assert read_tokens(write_token(tmp_path)) == (TOKEN,)
    for bad in ("", "   ", "two words", "three\nlines\nhere", "uml\u00e4ut", "nul\0", "x" * 5000):
        with pytest.raises(ConfigError, match="token") as caught:
            read_tokens(write_token(tmp_path, bad))
        assert caught.value.exit_code == 2
        assert "lines" not in str(caught.value)


def test_a_token_file_has_the_new_and_the_old_token_while_one_replaces_the_other(
    tmp_path: Path,
) -> None:
    for text in ("new\nold", "\nnew \n\n old\n"):
        assert read_tokens(write_token(tmp_path, text)) == ("new", "old")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_token(tmp_path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        read_tokens(path)
    assert TOKEN not in str(caught.value)


def test_a_token_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token_file.*No such file"):
        read_tokens(tmp_path / "absent")
    with pytest.raises(ConfigError, match="token_file"):
        read_tokens(tmp_path)
