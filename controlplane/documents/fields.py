"""Strict reading of a document's fields: a value of the right type and range, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TypeVar

from controlplane.domain.errors import BrigadeError
from controlplane.domain.names import is_name, shown

Json = Mapping[str, object]
Parsed = TypeVar("Parsed")


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

    def only(self, known: frozenset[str]) -> Fields:
        """Refuse keys that are not ``known``: ignoring one could send a packet elsewhere."""
        for key in self.values:
            if key not in known:
                raise DocumentError("unknown_key", f"{self.where} has {shown(key)}")
        return self

    def get(self, key: str) -> object:
        """Return a required value."""
        if key not in self.values:
            raise DocumentError("missing_key", f"{self.where} does not have {key!r}")
        return self.values[key]

    def wrong(self, key: str, expected: str) -> DocumentError:
        """Return the refusal of a value of the wrong type."""
        found = type(self.values[key]).__name__
        return DocumentError("wrong_type", f"{self.where}: {key!r} is {found}, not {expected}")

    def string(self, key: str) -> str:
        """Return a string."""
        value = self.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def name(self, key: str) -> str:
        """Return a string that is a name (``controlplane.domain.names``)."""
        value = self.string(key)
        check_name(self.where, value)
        return value

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        value = self.get(key)
        if type(value) is not int:
            raise self.wrong(key, "a whole number")
        check_range(f"{self.where}: {key!r}", value, low, high)
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``, both included."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        check_range(f"{self.where}: {key!r}", value, low, high)
        return float(value)

    def mapping(self, key: str) -> Fields:
        """Return an object."""
        value = self.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(f"{self.where}.{key}", value)

    def sequence(self, key: str, most: int) -> tuple[object, ...]:
        """Return a list of at most ``most`` values."""
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        if len(value) > most:
            raise DocumentError("too_large", f"{self.where}: {key!r} has over {most} entries")
        return tuple(value)

    def mappings(self, key: str, most: int) -> tuple[Fields, ...]:
        """Return a list of at most ``most`` objects."""
        entries = []
        for number, value in enumerate(self.sequence(key, most)):
            if not isinstance(value, dict):
                raise self.wrong(key, "a list of objects")
            entries.append(Fields(f"{self.where}.{key}[{number}]", value))
        return tuple(entries)

    def address(self, key: str) -> IPv4Address:
        """Return an address that a host can have."""
        return parse_address(f"{self.where}: {key!r}", self.string(key))

    def choice(self, key: str, parse: Callable[[str], Parsed], allowed: str) -> Parsed:
        """Return the parsed value; ``parse`` raises ``ValueError`` for an unknown one."""
        text = self.string(key)
        try:
            return parse(text)
        except ValueError as error:
            raise DocumentError(
                "out_of_range", f"{self.where}: {key!r} is {shown(text)}, not one of {allowed}"
            ) from error


def check_name(where: str, value: str) -> None:
    """Refuse an invalid name."""
    if not is_name(value):
        raise DocumentError("bad_name", f"{where}: {shown(value)} is not a valid name")


def check_range(where: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``low`` to ``high``."""
    if not low <= value <= high:
        raise DocumentError("out_of_range", f"{where} is {value}, not {low} to {high}")


def parse_address(where: str, text: str) -> IPv4Address:
    """Read one IPv4 address of a host, refusing other forms by name."""
    if ":" in text:
        raise DocumentError("unsupported_ipv6", f"{where}: servers reach each other over IPv4")
    if "/" in text:
        raise DocumentError("unsupported_prefix", f"{where}: must be one address")
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        raise DocumentError("bad_address", f"{where}: {shown(text)} is not an address") from error


def check_address(where: str, address: IPv4Address) -> None:
    """Refuse addresses that no host on a network can have (RFC 6890)."""
    first = address.packed[0]
    if first == 0 or address.is_loopback or address.is_multicast or address.is_reserved:
        raise DocumentError("bad_address", f"{where}: {address} is not the address of a host")
