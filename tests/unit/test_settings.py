"""Both files of settings: types are not guessed, and every key and default is documented."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from controlplane.settings.load import load_control_config
from controlplane.settings.models import ControlConfig
from lb.agent.config import AgentConfig, load_agent_config

README = Path(__file__).parents[2] / "README.md"
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
FILES: dict[str, type[BaseModel]] = {"Agent": AgentConfig, "Controller": ControlConfig}
SAMPLES = (True, 1, 1.0, "1", ["1"], [1])
FITTING: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    bool: (bool,),
    str: (str,),
    Path: (str,),
    tuple: (list,),
}
NOTHING = re.compile(r"|none|all|system's|.* else .*")
"""Words of the documentation for a key without a value of its own."""


def kinds(annotation: Any) -> Iterator[Any]:
    """Yield what a field may hold: classes, and ``Literal``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from kinds(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from kinds(part)
    elif annotation is not type(None):
        yield origin or annotation


def fields(model: type[BaseModel], table: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key below a model as the documentation spells it, ``[load] source``."""
    for name, field in model.model_fields.items():
        kind, *_ = kinds(field.annotation)
        inner = [part for part in get_args(field.annotation) if part is not type(None)]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inside = f"{table.strip('[]')}.{name}".lstrip(".")
            yield from fields(kind, f"[{inside}]")
        elif inner and isinstance(inner[0], type) and issubclass(inner[0], BaseModel):
            yield from fields(inner[0], f"[[{name}]]")
        else:
            yield f"{table} {name}".strip(), field


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and those inside it."""
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part)


def accepts(model: type[BaseModel], name: str, value: object) -> bool:
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return all(fault["loc"][:1] != (name,) for fault in error.errors())
    return True


@pytest.mark.parametrize("model", [*models(AgentConfig), *models(ControlConfig)])
def test_a_value_of_another_type_is_refused(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        fitting = [fit for kind in kinds(field.annotation) for fit in FITTING.get(kind, ())]
        for sample in SAMPLES:
            if type(sample) not in fitting:
                assert not accepts(model, name, sample), f"{name} = {sample!r}"


def documented(title: str) -> dict[str, str]:
    """Return the defaults of one file's table, as written, by key."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {title}")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if not line.startswith("| `"):
            continue
        keys, default = (cell.strip() for cell in line.split("|")[1:3])
        names = re.findall(r"`([^`]*)`", keys)
        table = names[0].rpartition(" ")[0]
        names[0] = names[0].rpartition(" ")[2]
        defaults = default.split(", ") if len(names) > 1 and ", " in default else [default]
        for number, name in enumerate(names):
            found[f"{table} {name}".strip()] = defaults[min(number, len(defaults) - 1)]
    return found


@pytest.mark.parametrize("title", FILES)
def test_the_documentation_has_every_key_and_its_default(title: str) -> None:
    told = documented(title)
    known = dict(fields(FILES[title]))
    assert set(told) == set(known)
    for key, field in known.items():
        value = field.get_default(call_default_factory=True, validated_data={})
        if value is PydanticUndefined:
            assert told[key] == "required", key
        elif value is None or value == ():
            assert NOTHING.fullmatch(told[key].replace("`", "")) or told[key] == "`[]`", key
        elif isinstance(value, bool):
            assert told[key] == str(value).lower(), key
        elif isinstance(value, int | float):
            assert float(told[key]) == value, key
        else:
            assert told[key].strip("`") == str(value), key


def test_the_examples_of_the_readme_are_right(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    control, agent = re.findall(r"^ *```toml\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "control.toml").write_text(textwrap.dedent(control))
    (tmp_path / "agent.toml").write_text(textwrap.dedent(agent))
    config = load_agent_config(tmp_path / "agent.toml")
    servers = load_control_config(tmp_path / "control.toml").server
    assert config.dip in [server.dip for server in servers if server.name == config.name]
