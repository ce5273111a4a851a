"""A wrong settings file is one line that names the key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from controlplane.domain.errors import ConfigError
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
        ({"mode": "x", "zzz": 1}, "(and 1 more)"),
    ],
)
def test_one_line_names_the_key_and_what_is_allowed(data: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Settings, data, "f.toml")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


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
