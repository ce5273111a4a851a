"""The JSON envelope with a checksum around every published document.

``{"format", "version", "kind", "generation", "sha256", "body"}``. The checksum is SHA-256 over the
canonical encoding (sorted keys, no spaces, ASCII) of all of it except ``sha256`` itself. It finds
damage; it is not a signature: the store decides who may publish.

Input is untrusted: for any bytes, the outcome is a value or a ``DocumentError``, in bounded memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import NoReturn

from controlplane.documents.fields import DocumentError, Fields, Json
from controlplane.domain.bounds import MAX_GENERATION

FORMAT = "bucket-brigade"
VERSION = 1
MAX_DIGITS = 20


def canonical(value: object) -> bytes:
    """Return the encoding of a JSON value that checksums are computed from."""
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


def unseal(data: bytes, most_bytes: int, most_tokens: int) -> tuple[str, int, Fields]:
    """Return kind, generation and body. Format, version and checksum are checked in this order.

    Unknown keys beside ``body`` are tolerated and are part of the checksum: they may record who
    wrote the document and when. Raises ``DocumentError``: it is damaged, or not such a document.

    Bytes and tokens (JSON's commas, colons and opening brackets) are counted before parsing. Each
    token is at most one more Python object, so ``most_tokens`` bounds the memory.
    """
    document = Fields("document", _parse(data, most_bytes, most_tokens))
    if document.string("format") != FORMAT:
        raise DocumentError("wrong_format", "this is not a Bucket Brigade document")
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
        raise DocumentError("wrong_checksum", "it was damaged in transit; publish it again")
    generation = document.integer("generation", 1, MAX_GENERATION)
    return document.string("kind"), generation, document.mapping("body")


def _parse(data: bytes, most_bytes: int, most_tokens: int) -> Json:
    if len(data) > most_bytes:
        raise DocumentError("too_large", f"{len(data)} bytes, at most {most_bytes} are read")
    if sum(data.count(token) for token in (b",", b":", b"[", b"{")) > most_tokens:
        raise DocumentError("too_large", f"more than {most_tokens} values")
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
        raise DocumentError("malformed", "it is not a JSON object")
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
