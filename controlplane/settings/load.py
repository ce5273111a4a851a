"""Reads a controller's file, checks it, and makes its paths absolute."""

from __future__ import annotations

from pathlib import Path

from controlplane.domain.store_url import directory_of, file_url
from controlplane.settings import rules
from controlplane.settings.models import ControlConfig
from controlplane.settings.toml import load_toml, validate


def load_control_config(path: Path | str) -> ControlConfig:
    """Read and check a controller's file; paths in it come back absolute.

    Raises:
        ConfigError: one line with the key's name and what is allowed.

    """
    path = Path(path)
    config = validate(ControlConfig, load_toml(path), path)
    rules.check(config, path)
    return _with_absolute_paths(config, path.resolve().parent)


def _with_absolute_paths(config: ControlConfig, base: Path) -> ControlConfig:
    changes: dict[str, object] = {"store": file_url(base / directory_of(config.store))}
    if config.listen:
        listen = config.listen
        changes["listen"] = listen.model_copy(
            update={
                "token_file": base / listen.token_file,
                "certificate": listen.certificate and base / listen.certificate,
                "private_key": listen.private_key and base / listen.private_key,
            }
        )
    return config.model_copy(update=changes)
