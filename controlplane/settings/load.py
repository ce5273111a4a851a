"""Reads a controller's file and checks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.errors import ConfigError
from controlplane.settings import rules
from controlplane.settings.models import ControlConfig
from controlplane.settings.toml import load_toml, validate, with_absolute_paths

AGENT_KEYS = frozenset({"name", "interface", "dip"})
"""What every agent's file has and no controller's."""
CONTROLLER_KEYS = frozenset({"server", "pool"})
"""What every controller's file has and no agent's."""
LISTEN_PATHS = ("token_file", "certificate", "private_key")


def load_control_config(path: Path | str) -> ControlConfig:
    """Read and check a controller's file; relative paths are relative to the file.

    Raises ``ConfigError``: one line with the key's name and what is allowed.
    """
    return control_config(read_control_tables(path), path)


def read_control_tables(path: Path | str) -> dict[str, Any]:
    """Read a controller's file as tables, with absolute paths. Raises ``ConfigError``."""
    path = Path(path)
    base = path.resolve().parent
    loaded = load_toml(path)
    if AGENT_KEYS & loaded.keys() and not CONTROLLER_KEYS & loaded.keys():
        raise ConfigError(f"{path}: is the file of an agent; name a controller's by --config")
    settings = with_absolute_paths(loaded, base)
    if isinstance(listen := settings.get("listen"), dict):
        settings["listen"] = with_absolute_paths(listen, base, *LISTEN_PATHS)
    return settings


def control_config(tables: Mapping[str, Any], path: Path | str) -> ControlConfig:
    """Return checked settings; ``path`` is for messages. Raises ``ConfigError``."""
    config = validate(ControlConfig, tables, path)
    rules.check(config, path)
    return config
