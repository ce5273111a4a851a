"""What `lbctl check` finds beside the settings file: the files, hooks and interface that it names.

A file that is not on this machine is a note: the settings may be for another one. What is here and
would be refused is a mistake.
"""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.domain.errors import ConfigError
from controlplane.store.http.token import read_token

if TYPE_CHECKING:
    from controlplane.settings.models import ControlConfig
    from lb.agent.config import AgentConfig

INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True)
class Finding:
    """One line; ``wrong``: a mistake, else a note."""

    text: str
    wrong: bool = False


def of_agent(config: AgentConfig) -> Iterator[Finding]:
    """Yield what is wrong or missing on this machine for an agent."""
    if not (INTERFACES / config.interface).exists():
        yield Finding(f"interface: this machine does not have {config.interface}")
    yield from _token("token_file", config.token_file)
    if (yield from _is_readable("ca_file", config.ca_file)):
        try:
            ssl.create_default_context(cafile=str(config.ca_file))
        except (OSError, ssl.SSLError) as error:
            reason = f"{config.ca_file} does not hold a certificate in PEM form ({error})"
            yield Finding(f"ca_file: {reason}", wrong=True)
    for key, command in (("on_ready", config.on_ready), ("on_withdraw", config.on_withdraw)):
        if command:
            yield from _hook(key, command[0])


def of_controller(config: ControlConfig) -> Iterator[Finding]:
    """Yield what is wrong or missing on this machine for a controller."""
    listen = config.listen
    if listen is None:
        return
    yield from _token("listen.token_file", listen.token_file)
    certificate = yield from _is_readable("listen.certificate", listen.certificate)
    private_key = yield from _is_readable("listen.private_key", listen.private_key)
    if certificate and private_key:
        yield from _pair(str(listen.certificate), str(listen.private_key))


def _token(key: str, path: Path | None) -> Iterator[Finding]:
    if (yield from _is_readable(key, path)) and path is not None:
        try:
            read_token(path)
        except ConfigError as error:
            yield Finding(
                f"{key}: {str(error).removeprefix('token_file').lstrip(': ')}", wrong=True
            )


def _is_readable(key: str, path: Path | None) -> Generator[Finding, None, bool]:
    """Yield a note if a file cannot be looked at; return whether it can."""
    if path is None:
        return False
    try:
        path.open("rb").close()
    except FileNotFoundError:
        yield Finding(f"{key}: this machine does not have {path}")
    except PermissionError:
        yield Finding(f"{key}: you may not read {path}, so it was not checked; use sudo")
    except OSError as error:
        yield Finding(f"{key}: {path}: {error.strerror}", wrong=True)
    else:
        return True
    return False


def _pair(certificate: str, private_key: str) -> Iterator[Finding]:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private_key, password="-")  # noqa: S106 no prompt
    except (OSError, ValueError) as error:
        yield Finding(
            f"listen.certificate: {certificate} and {private_key} are not a certificate and its "
            f"key in PEM form ({error})",
            wrong=True,
        )


def _hook(key: str, program: str) -> Iterator[Finding]:
    if shutil.which(program) is not None:
        return
    path = Path(program)
    if path.is_absolute() and path.exists() and not os.access(path, os.X_OK):
        yield Finding(f"{key}: {program} is not executable: chmod +x {program}", wrong=True)
    else:
        yield Finding(f"{key}: this machine does not have the command {program}")
