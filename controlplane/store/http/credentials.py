"""A server's certificate and the tokens that it accepts; both can be replaced while it serves."""

from __future__ import annotations

import errno
import hmac
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.domain.errors import ConfigError
from controlplane.store.http.token import read_tokens


@dataclass(frozen=True)
class Credentials:
    """What was read from the files: tokens, and with TLS the context that has the certificate."""

    tokens: tuple[str, ...] = field(repr=False)
    tls: ssl.SSLContext | None = None


def read_credentials(
    token_file: Path, certificate: Path | None, private_key: Path | None
) -> Credentials:
    """Read the files of a server. Raises ``ConfigError`` if one is missing, open or wrong."""
    return Credentials(read_tokens(token_file), read_certificate(certificate, private_key))


def read_certificate(certificate: Path | None, private_key: Path | None) -> ssl.SSLContext | None:
    """Return the context of a certificate and its key, ``None``: no TLS. ``ConfigError``."""
    if (certificate is None) != (private_key is None):
        raise ConfigError("certificate and private_key go together: set both or neither")
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key is an error, never a prompt.
        context.load_cert_chain(certificate, private_key, password=lambda: "-")
    except OSError as error:  # ssl.SSLError is one
        reason = os.strerror(error.errno) if error.errno == errno.ENOENT else str(error)
        raise ConfigError(
            f"cannot use certificate {certificate} with private_key {private_key}: {reason}"
        ) from error
    return context


class CredentialsInUse:
    """The credentials of a running server. ``use`` may be called from any thread.

    Each request is compared with the tokens of that moment, and each new connection gets the
    certificate of that moment. Connections that are open stay encrypted as they were.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.tls = credentials.tls
        """The context to listen with; ``None``: without TLS."""
        if self.tls is not None:
            # Called for each handshake, also for one without a server name (RFC 6066, section 3).
            self.tls.sni_callback = self._choose

    def use(self, credentials: Credentials) -> None:
        """Use these from now on. ``ConfigError`` if they switch TLS on or off."""
        if (credentials.tls is None) != (self.tls is None):
            raise ConfigError("listen.certificate: TLS is switched on or off only by a restart")
        self._credentials = credentials

    def accepts(self, authorization: str) -> bool:
        """Whether the value of an ``Authorization`` header has one of the tokens."""
        given = authorization.encode("latin-1", "replace")
        # All are compared, and each in constant time: the time shows nothing about a token.
        same = [
            hmac.compare_digest(given, f"Bearer {token}".encode())
            for token in self._credentials.tokens
        ]
        return any(same)

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext
    ) -> None:
        if self._credentials.tls is not None:
            connection.context = self._credentials.tls
