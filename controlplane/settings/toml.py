"""Reads TOML settings into pydantic models, and reports a fault in one line.

For agents and controllers. Models should forbid unknown keys (``StrictModel`` does). The line has
the file, the key as the file spells it (``server[2].dip``), and what is allowed. The text of a
validator's ``ValueError`` follows the key unchanged ("must be ...").
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
)

from controlplane.domain.bounds import MAX_PORT
from controlplane.domain.errors import ConfigError, SettingsError
from controlplane.domain.names import closest, guess, is_name, shown
from controlplane.domain.store_url import FILE_SCHEME, directory_of, file_url, is_file

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PHRASES: Mapping[str, str] = MappingProxyType(
    {
        "tuple_type": "must be a list, in [ ]",
        "list_type": "must be a list, in [ ]",
        "string_type": "must be text in quotes",
        "path_type": "must be a path in quotes",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_type": "must be true or false",
        "model_type": "must be a table",
        "dict_type": "must be a table",
        "literal_error": "must be {expected}",
        "enum": "must be {expected}",
        "greater_than": "must be more than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be at most {le}",
        "string_too_short": "must not be empty",
        "too_short": "must have at least {min_length}",
        "too_long": "must have at most {max_length}",
        "value_error": "{error}",
        "missing": "is required",
    }
)
"""Texts for pydantic's error types, for the person who wrote the file."""


class StrictModel(BaseModel):
    """A table of a settings file: unknown keys refused, no conversion of types, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound=BaseModel)


def _name(name: str) -> str:
    if not is_name(name):
        allowed = "must be 1 to 63 of a-z 0-9 . _ -, the first a letter or a digit"
        raise ValueError(f"{allowed}; not {shown(name)}")
    return name


def _ipv4(value: object) -> IPv4Address:
    if isinstance(value, IPv4Address):
        return value
    if not isinstance(value, str):
        raise ValueError('must be an IPv4 address in quotes, as "192.0.2.1"')  # noqa: TRY004
    try:
        return IPv4Address(value)
    except ValueError:
        raise ValueError(f'must be an IPv4 address, as "192.0.2.1"; not {value!r}') from None


Whole = Annotated[int, Strict()]
"""A whole number; not ``"80"``, ``80.0`` or ``true``."""

Number = Annotated[float, Strict(), AllowInfNan(False)]  # noqa: FBT003 - its only argument
"""A finite number, whole or not; not text or ``true``."""

Flag = Annotated[bool, Strict()]
"""``true`` or ``false``; not 1 or ``"yes"``."""


Name = Annotated[str, AfterValidator(_name)]
"""The name of a server, a pool or a service."""

PortOrNone = Annotated[Whole, Field(ge=0, le=MAX_PORT)]
"""A port, or 0 to listen nowhere."""


def text_like(pattern: str, meaning: str) -> AfterValidator:
    """Return a validator of text that fully matches ``pattern``; errors show ``meaning``."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"must be {meaning}; not {shown(text)}")
        return text

    return AfterValidator(check)


URL = text_like(r"https?://[!-~]+", "http://... or https://...")

Ipv4 = Annotated[IPv4Address, BeforeValidator(_ipv4)]
"""An IPv4 address in quotes; numbers, networks and IPv6 are refused with a plain reason."""


def load_toml(path: Path | str) -> dict[str, Any]:
    """Read a TOML file.

    Raises ``ConfigError``: it cannot be read or is not TOML; the line has the position.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read()
        text = _text(data, path).replace("\r\n", "\n")
        settings = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; create it, or name another") from None
    except PermissionError:
        raise ConfigError(f"{path}: you may not read it; run as its owner, usually root") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: arrays or tables too deep") from None
    except tomllib.TOMLDecodeError as error:
        first_line = "(at line 1," in str(error)
        doubt = "; is it a settings file of agent or controller?" if first_line else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{doubt}") from None
    except ValueError as error:  # a number of more digits than Python converts
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    if _has_nul(settings):
        raise ConfigError(f"{path}: a text has a NUL character; remove it")
    return settings


def _has_nul(value: object) -> bool:
    """Whether a key or a text has a NUL, which no path and no name of the system can have."""
    if isinstance(value, dict):
        return any(map(_has_nul, value.keys())) or any(map(_has_nul, value.values()))
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _text(data: bytes, path: Path | str) -> str:
    """Decode a file. A byte order mark, which editors of Windows write, is skipped."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path}: is UTF-16 (by its byte order mark); save it as UTF-8")
    return data.decode("utf-8-sig")


def with_absolute_paths(table: Mapping[str, Any], base: Path, *keys: str) -> dict[str, Any]:
    """Return a table with the paths of ``keys`` and of a ``file:`` store made absolute.

    A value that is not text is left for the validator to refuse.
    """
    paths = {key: str(base / table[key]) for key in keys if isinstance(table.get(key), str)}
    store = table.get("store")
    if isinstance(store, str) and is_file(store) and store != FILE_SCHEME:
        paths["store"] = file_url(base / directory_of(store))
    return {**table, **paths}


def validate(model: type[Model], data: Mapping[str, Any], path: Path | str) -> Model:
    """Return ``data`` as a ``model``.

    Raises ``SettingsError``: file, key, what is allowed; the message counts further faults.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = _useful_first(error.errors(include_url=False), model)
        raise SettingsError(path, [describe(fault, model) for fault in faults]) from None


def _useful_first(faults: Sequence[ErrorDetails], model: type[BaseModel]) -> list[ErrorDetails]:
    """Sort faults: unknown keys, wrong values, missing keys.

    A missing key that was only spelt wrongly is left out: its fault is the unknown key. So is a
    list that is too short only because pydantic does not count its wrong entries.
    """
    unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
    meant = {(*loc[:-1], _meant(loc, model)) for loc in unknown}
    rank = {"extra_forbidden": 0, "missing": 2}
    inside = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    kept = [
        fault
        for fault in faults
        if (fault["type"] != "missing" or fault["loc"] not in meant)
        and (fault["type"] != "too_short" or fault["loc"] not in inside)
    ]
    return sorted(kept, key=lambda fault: rank.get(fault["type"], 1))


def _meant(location: Sequence[str | int], model: type[BaseModel]) -> str | None:
    """Return the allowed key that an unknown one resembles."""
    return closest(str(location[-1]), _keys_beside(location, model))


def describe(fault: ErrorDetails, model: type[BaseModel]) -> str:
    """Return one fault as ``key: what is allowed``."""
    location = fault["loc"]
    key = dotted(location)
    if fault["type"] == "extra_forbidden":
        return _unknown_key(location, model)
    phrase = PHRASES.get(fault["type"])
    if phrase is None:
        return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
    text = phrase.format(**fault.get("ctx", {}))
    return f"{key}: {text}" if location else text


def dotted(location: Sequence[str | int]) -> str:
    """Spell a position in the file as ``server[2].dip``, counting from 1."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text


def _unknown_key(location: Sequence[str | int], model: type[BaseModel]) -> str:
    allowed = sorted(_keys_beside(location, model))
    key = dotted(location)
    return f"{key}: unknown key; {guess(str(location[-1]), allowed)}allowed: {', '.join(allowed)}"


def _keys_beside(location: Sequence[str | int], model: type[BaseModel]) -> set[str]:
    """Return the keys allowed in the table that contains ``location``."""
    current: type[BaseModel] = model
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        for name, field in current.model_fields.items():
            if part in (name, field.alias):
                current = _model_of(field.annotation) or current
    return {field.alias or name for name, field in current.model_fields.items()}


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation such as ``tuple[Thing, ...] | None`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_of(inner)
        if found:
            return found
    return None
