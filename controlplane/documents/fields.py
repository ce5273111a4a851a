"""Strict reading of a document's fields: a value of the right type and range, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any, TypeVar

from controlplane.domain.errors import BrigadeError
from controlplane.domain.names import is_name, shown

Json = Mapping[str, object]
Kind = TypeVar("Kind")


class DocumentError(BrigadeError):
    """A document is refused; the one in use stays.

    ``reason`` is a short constant slug, fit for a metric's label; docs/documents.md lists them.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"document refused, {reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Fields:
    """A JSON object being read. ``where`` names it in refusals."""

    where: str
    values: Json

    def only(self, known: Collection[str]) -> Fields:
        """Refuse keys that are not ``known``: ignoring one could send a packet elsewhere."""
        for key in self.values:
            if key not in known:
                raise DocumentError("unknown_key", f"{self.where} has {shown(key)}")
        return self

    def read(self, readers: Mapping[str, Reader]) -> dict[str, Any]:
        """Return the value of each key, as its reader returns it."""
        return {key: reader(self, key) for key, reader in readers.items()}

    def typed(self, key: str, kind: type[Kind], expected: str) -> Kind:
        """Return a required value of this type (true is not a number)."""
        if key not in self.values:
            raise DocumentError("missing_key", f"{self.where} does not have {key!r}")
        value = self.values[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, expected)
        return value

    def wrong(self, key: str, expected: str) -> DocumentError:
        """Return the refusal of a value of the wrong type."""
        found = type(self.values[key]).__name__
        return DocumentError("wrong_type", f"{self.where}: {key!r} is {found}, not {expected}")

    def string(self, key: str) -> str:
        """Return a string."""
        return self.typed(key, str, "a string")

    def name(self, key: str) -> str:
        """Return a string that is a name (``controlplane.domain.names``)."""
        value = self.string(key)
        check_name(self.where, value)
        return value

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        return self.typed(key, bool, "true or false")

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        value = self.typed(key, int, "a whole number")
        check_range(f"{self.where}: {key!r}", value, low, high)
        return value

    def mapping(self, key: str) -> Fields:
        """Return an object."""
        return Fields(f"{self.where}.{key}", self.typed(key, dict, "an object"))

    def sequence(self, key: str, most: int) -> list[object]:
        """Return a list of at most ``most`` values."""
        value = self.typed(key, list, "a list")
        if len(value) > most:
            raise DocumentError("too_large", f"{self.where}: {key!r} has over {most} entries")
        return value

    def mappings(self, key: str, most: int) -> list[Fields]:
        """Return a list of at most ``most`` objects."""
        entries = []
        for number, value in enumerate(self.sequence(key, most)):
            if not isinstance(value, dict):
                raise self.wrong(key, "a list of objects")
            entries.append(Fields(f"{self.where}.{key}[{number}]", value))
        return entries

    def address(self, key: str) -> IPv4Address:
        """Return an address that a host can have."""
        return parse_address(f"{self.where}: {key!r}", self.string(key))


Reader = Callable[[Fields, str], object]
"""Returns the value of a key, or refuses it: the method of a type, or one of the following."""


def integer(low: int, high: int) -> Reader:
    """Return the reader of a whole number from ``low`` to ``high``, both included."""
    return lambda fields, key: fields.integer(key, low, high)


def number(low: float, high: float) -> Reader:
    """Return the reader of a number from ``low`` to ``high``, both included."""

    def read(fields: Fields, key: str) -> float:
        kind = int if isinstance(fields.values.get(key), int) else float
        value = fields.typed(key, kind, "a number")
        check_range(f"{fields.where}: {key!r}", value, low, high)
        return float(value)

    return read


def choice(options: Mapping[str, object]) -> Reader:
    """Return the reader of one of some strings, which returns what the string stands for."""

    def read(fields: Fields, key: str) -> object:
        text = fields.string(key)
        if text not in options:
            allowed = f"{shown(text)}, not one of {', '.join(options)}"
            raise DocumentError("out_of_range", f"{fields.where}: {key!r} is {allowed}")
        return options[text]

    return read


def optional(reader: Reader) -> Reader:
    """Return a reader for which a missing key and null are ``None``."""
    return lambda fields, key: None if fields.values.get(key) is None else reader(fields, key)


def check_name(where: str, value: str) -> None:
    """Refuse an invalid name."""
    if not is_name(value):
        raise DocumentError("bad_name", f"{where}: {shown(value)} is not a valid name")


def check_range(where: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``low`` to ``high``."""
    if not low <= value <= high:
        raise DocumentError("out_of_range", f"{where} is {value}, not {low} to {high}")


def parse_address(where: str, text: str) -> IPv4Address:
    """Read one IPv4 address that a host can have (RFC 6890), refusing other forms by name."""
    if ":" in text:
        raise DocumentError("unsupported_ipv6", f"{where}: servers reach each other over IPv4")
    if "/" in text:
        raise DocumentError("unsupported_prefix", f"{where}: must be one address")
    try:
        address = IPv4Address(text)
    except AddressValueError as error:
        raise DocumentError("bad_address", f"{where}: {shown(text)} is not an address") from error
    first = address.packed[0]
    if first == 0 or address.is_loopback or address.is_multicast or address.is_reserved:
        raise DocumentError("bad_address", f"{where}: {address} is not the address of a host")
    return address
