"""A wrong settings file is one line that names the key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from controlplane.domain.errors import ConfigError, SettingsError
from controlplane.settings.toml import Ipv4, StrictModel, Whole, load_toml, validate


class Part(StrictModel):
    dip: Ipv4
    weight: Whole = Field(1, ge=1, le=10)


class Settings(StrictModel):
    mode: Literal["native", "generic"] = "native"
    server: tuple[Part, ...] = ()
    part: Part | None = None


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"modes": "native"}, "f.toml: modes: unknown key; did you mean 'mode'?"),
        ({"zzz": 1}, "f.toml: zzz: unknown key; allowed: mode, part, server"),
        ({"mode": "fast"}, "f.toml: mode: must be 'native' or 'generic'"),
        ({"server": [{"dip": "10.0.0.1"}, {}]}, "f.toml: server[2].dip: is required"),
        ({"server": [{"dip": "10.0.0.1", "zzz": 1}]}, "server[1].zzz: unknown key; allowed: dip"),
        ({"part": {"dip": "10.0.0.0/8"}}, "part.dip: must be an IPv4 address"),
        ({"part": {"dip": 5}}, "part.dip: must be an IPv4 address in quotes"),
        (
            {"part": {"dip": "10.0.0.1", "weight": 11}},
            "part.weight: must be at most 10",
        ),
        ({"part": {"dip": "10.0.0.1", "weight": "1.5"}}, "part.weight: must be a whole number"),
        ({"server": 3}, "server: must be a list"),
        ({"mode": "x", "zzz": 1}, "(and 1 more; `lbctl check f.toml` lists them)"),
    ],
)
def test_one_line_names_the_key_and_what_is_allowed(data: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Settings, data, "f.toml")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_faults_are_sorted_by_use_and_a_misspelt_key_is_not_missing_too() -> None:
    data = {"part": {"dipp": "10.0.0.1", "weight": 99}, "server": [{}], "modes": 1}
    with pytest.raises(SettingsError) as caught:
        validate(Settings, data, "f.toml")
    assert [fault.partition(";")[0] for fault in caught.value.faults] == [
        "part.dipp: unknown key",
        "modes: unknown key",
        "part.weight: must be at most 10",
        "server[1].dip: is required",
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_of_an_editor_of_windows_is_read(tmp_path: Path, line_end: str) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(f"a = 1{line_end}b = 2{line_end}".encode("utf-8-sig"))
    assert load_toml(path) == {"a": 1, "b": 2}


def test_a_file_of_somebody_else_says_whose_turn_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ConfigError, match="you may not read it; run as its owner, usually root"):
        load_toml(tmp_path / "f.toml")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a = ", "not valid TOML"),
        (b"a = '\xff'", "is not UTF-8"),
        (b"\xff\xfea\x00", "is UTF-16"),
        (b"-----BEGIN CERTIFICATE-----", "is it a settings file of agent or controller"),
        (b"a = " + b"[" * 3000, "too deep"),
        (b"a = " + b"9" * 5000, "not valid TOML"),
        (b'[a]\nb = ["x\\u0000y"]', "has a NUL character"),
        (b'"a\\u0000" = 1', "has a NUL character"),
        (None, "no such file"),
    ],
)
def test_unreadable_files_say_why(tmp_path: Path, content: bytes | None, line: str) -> None:
    path = tmp_path / "f.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=line) as caught:
        load_toml(path)
    assert str(path) in str(caught.value)
