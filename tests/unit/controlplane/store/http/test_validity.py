"""When certificates end, as openssl reads it, and what is reported of those that end soon."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from controlplane.domain.errors import ConfigError
from controlplane.store.http.validity import (
    DAY_SECONDS,
    authorities_end,
    chain_end,
    ending_soon,
)


def certificate(folder: Path, days: int, *more: str) -> Path:
    """Make a self-signed certificate that ends in so many days."""
    path = folder / f"{days}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    command += ["-days", str(days), "-keyout", str(folder / "key.pem"), "-out", str(path), *more]
    subprocess.run(command, check=True, capture_output=True)
    return path


def by_openssl(path: Path) -> float:
    command = ["openssl", "x509", "-in", str(path), "-noout", "-enddate"]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return ssl.cert_time_to_seconds(line.strip().removeprefix("notAfter="))


@pytest.mark.parametrize("days", [1, 3650, 36500], ids=["soon", "UTCTime", "GeneralizedTime"])
def test_the_end_is_what_openssl_reads(tmp_path: Path, days: int) -> None:
    path = certificate(tmp_path, days, "-addext", "subjectAltName=IP:10.0.0.9")
    assert chain_end(path) == authorities_end(path) == by_openssl(path)


def test_a_chain_ends_with_the_first_authorities_with_the_last(tmp_path: Path) -> None:
    """While an authority is replaced, a file has the old one beside the new one."""
    first, last = certificate(tmp_path, 3), certificate(tmp_path, 300)
    both = tmp_path / "both.pem"
    both.write_text(f"some text\n{last.read_text()}{first.read_text()}")
    assert chain_end(both) == by_openssl(first)
    assert authorities_end(both) == by_openssl(last)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ],
)
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "damaged.pem"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"damaged\.pem"):
        chain_end(path)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (-1, "the certificate of ca_file has ended"),
        (0.5 * DAY_SECONDS, "the certificate of ca_file ends within a day"),
        (1.5 * DAY_SECONDS, "the certificate of ca_file ends in 1 day:"),
        (6.9 * DAY_SECONDS, "the certificate of ca_file ends in 6 days: replace it and reload"),
        (7.1 * DAY_SECONDS, None),
    ],
)
def test_one_that_ends_within_a_week_is_a_trouble(left: float, text: str | None) -> None:
    found = ending_soon({"ca_file": 1e9 + left, "other": 2e9}, 1e9)
    assert found is None if text is None else found is not None and found.startswith(text)
