"""The sealed JSON envelope around every published document, and strict reading of its fields.

``{"format", "version", "kind", "generation", "sha256", "body"}``. The checksum is SHA-256 over the
canonical encoding (sorted keys, no spaces, ASCII) of all of it but ``sha256`` itself. It finds
damage; it is no signature: who may publish is the store's business.

Everything here may be fed by anybody: whatever the bytes are, the outcome is a value or a
``DocumentError``, in bounded memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import NoReturn

from controlplane.errors import BrigadeError
from controlplane.store.names import is_name

FORMAT = "bucket-brigade"
VERSION = 1
MAX_GENERATION = (1 << 63) - 1
MAX_DIGITS = 20

Json = Mapping[str, object]


class DocumentError(BrigadeError):
    """A document is refused; the one in use stays.

    ``reason`` is a short constant slug, fit for a metric's label; docs/documents.md lists them.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"document refused, {reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Limits:
    """Bounds on what is parsed at all: bytes, and JSON's commas, colons and opening brackets.

    The second bounds the memory that parsing takes: each is at most one more Python object.
    """

    document_bytes: int
    tokens: int


@dataclass(frozen=True)
class Envelope:
    """An opened envelope whose format, version and checksum were right."""

    kind: str
    generation: int
    body: Fields


def canonical(value: object) -> bytes:
    """Return the one encoding of a JSON value that checksums are taken over."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def seal(kind: str, generation: int, body: Json) -> bytes:
    """Return the encoded document of this kind, generation and body."""
    document: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "generation": generation,
        "body": body,
    }
    document["sha256"] = hashlib.sha256(canonical(document)).hexdigest()
    return canonical(document)


def unseal(data: bytes, limits: Limits) -> Envelope:
    """Open a document: parse, then check format, version and checksum, in this order.

    Unknown keys beside ``body`` are tolerated (and are under the checksum): they can say who wrote
    the document or when, and change nothing.

    Raises:
        DocumentError: it is not such a document, or a damaged one.

    """
    document = Fields("document", _parse(data, limits))
    if document.string("format") != FORMAT:
        raise DocumentError("wrong_format", "this is no Bucket Brigade document")
    version = document.integer("version", 1, MAX_GENERATION)
    if version > VERSION:
        raise DocumentError(
            "future_version",
            f"its version is {version}, this program reads up to {VERSION}; upgrade it",
        )
    rest = {key: value for key, value in document.values.items() if key != "sha256"}
    try:
        digest = hashlib.sha256(canonical(rest)).hexdigest()
    except RecursionError as error:
        raise DocumentError("malformed", "it is nested too deeply") from error
    if digest != document.string("sha256"):
        raise DocumentError("wrong_checksum", "it was damaged on its way; publish it again")
    return Envelope(
        kind=document.string("kind"),
        generation=document.integer("generation", 1, MAX_GENERATION),
        body=document.mapping("body"),
    )


def _parse(data: bytes, limits: Limits) -> Json:
    if len(data) > limits.document_bytes:
        raise DocumentError(
            "too_large", f"{len(data)} bytes, at most {limits.document_bytes} are read"
        )
    if sum(data.count(token) for token in (b",", b":", b"[", b"{")) > limits.tokens:
        raise DocumentError("too_large", f"more than {limits.tokens} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DocumentError("malformed", f"it is not JSON ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise DocumentError("malformed", "it is no JSON object")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise DocumentError("malformed", "a JSON object repeats a key")
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise DocumentError("out_of_range", f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DocumentError("out_of_range", "a number too large")
    return value


def _constant(text: str) -> NoReturn:
    raise DocumentError("malformed", f"{text} is not JSON")


@dataclass(frozen=True)
class Fields:
    """A JSON object being read. ``where`` names it in refusals."""

    where: str
    values: Json

    def only(self, known: frozenset[str]) -> Fields:
        """Refuse keys that are not ``known``: ignoring one could send a packet elsewhere."""
        for key in self.values:
            if key not in known:
                raise DocumentError("unknown_key", f"{self.where} has {_shown(key)}")
        return self

    def get(self, key: str) -> object:
        """Return a value that has to be there."""
        if key not in self.values:
            raise DocumentError("missing_key", f"{self.where} lacks {key!r}")
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
        """Return a string that is a name (``controlplane.store.names``)."""
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

    def choice(self, key: str, parse: Callable[[str], object], allowed: str) -> object:
        """Return the parsed value; ``parse`` raises ``ValueError`` for an unknown one."""
        text = self.string(key)
        try:
            return parse(text)
        except ValueError as error:
            raise DocumentError(
                "out_of_range", f"{self.where}: {key!r} is {_shown(text)}, not one of {allowed}"
            ) from error


def check_name(where: str, value: str) -> None:
    """Refuse what is no name."""
    if not is_name(value):
        raise DocumentError("bad_name", f"{where}: {_shown(value)} is no name")


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
        raise DocumentError("bad_address", f"{where}: {_shown(text)} is no address") from error


def check_address(where: str, address: IPv4Address) -> None:
    """Refuse addresses that no host on a network can have (RFC 6890)."""
    first = address.packed[0]
    if first == 0 or address.is_loopback or address.is_multicast or address.is_reserved:
        raise DocumentError("bad_address", f"{where}: {address} is no host's address")


def _shown(text: str) -> str:
    """Quote hostile text for a log line: short, one line, ASCII."""
    most = 40
    return ascii(text if len(text) <= most else text[:most] + "...")
