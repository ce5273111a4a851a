"""The agent's settings file (docs/configuration.md): read, saved when good, used when refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from pydantic import Field, ValidationInfo, field_validator, model_validator

from controlplane.domain.errors import ConfigError
from controlplane.domain.overhead import LEAST_MTU
from controlplane.domain.settings_changes import Accepted, keep
from controlplane.domain.store_url import DEFAULT_STORE, FILE_SCHEME, TLS_SCHEME, is_file
from controlplane.settings.toml import (
    URL,
    Ipv4,
    Name,
    Number,
    PortOrNone,
    StrictModel,
    Whole,
    load_toml,
    text_like,
    validate,
    with_absolute_paths,
)
from controlplane.store.contract import StoreError
from controlplane.store.open import open_agent_store
from controlplane.store.saved_settings import SavedSettings, key_of_text, read_contents

INTERFACE = re.compile(r"[^\s/:]{1,15}")
STORE = re.compile(rf"{FILE_SCHEME}.+|https?://[^/\s]+/?")
MAX_MTU = 0xFFFF
PATH_KEYS = ("token_file", "ca_file", "state_dir", "run_dir", "bpffs")
LOAD_KEYS = {"cgroup": ("cgroup",), "metric": ("url", "metric", "kind")}
METRIC = text_like(r"[a-zA-Z_:][a-zA-Z0-9_:]*", "the name of a Prometheus metric, without labels")
AGENT_KEYS = frozenset({"name", "interface", "dip"})
"""What every agent's file has and no controller's."""
CONTROLLER_KEYS = frozenset({"server", "pool"})
"""What every controller's file has and no agent's."""
MAX_TABLE = 0xFFFFFFFF
KERNEL_TABLES = frozenset({252, 253, 254, 255})
"""RT_TABLE_COMPAT, _DEFAULT, _MAIN and _LOCAL."""

CHANGEABLE_KEYS = frozenset(
    {"token_file", "ca_file", "on_ready", "on_withdraw", "hook_timeout_seconds", "load"}
)
"""Keys that a running agent can change; the others need a restart."""
ACCESS_KEYS = ("token_file", "ca_file")
"""They belong to the store that is in use."""
DEFAULT_STATE_DIR = "/var/lib/bucket-brigade"

XdpMode = Literal["native", "generic"]
XDP_MODES: tuple[XdpMode, ...] = ("native", "generic")


class MetricsConfig(StrictModel):
    """``[metrics]``: Prometheus metrics, always on the DIP. Port 0: none."""

    port: PortOrNone = 9109


class LoadConfig(StrictModel):
    """``[load]``: what this server reports as its load."""

    source: Literal["machine", "cgroup", "metric", "none"] = "machine"
    cgroup: Path | None = None
    url: Annotated[str, URL] | None = None
    metric: Annotated[str, METRIC] | None = None
    kind: Literal["gauge", "counter"] | None = None
    scale: Number = Field(1.0, gt=0)
    window_seconds: Number = Field(2.0, ge=0.2, le=300)

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> LoadConfig:
        for source, keys in LOAD_KEYS.items():
            for key in keys:
                given = getattr(self, key) is not None
                if source == self.source and not given:
                    raise ValueError(f"{key} is required with source = {source!r}")
                if source != self.source and given:
                    raise ValueError(f"{key} is allowed only with source = {source!r}")
        return self


class AgentConfig(StrictModel):
    """All settings of one agent; paths are absolute."""

    name: Name
    interface: str
    dip: Ipv4
    store: str = DEFAULT_STORE
    token_file: Path | None = None
    ca_file: Path | None = None
    state_dir: Path = Path(DEFAULT_STATE_DIR)
    run_dir: Path = Path("/run/bucket-brigade")
    bpffs: Path = Path("/sys/fs/bpf/bucket-brigade")
    xdp_mode: XdpMode = "native"
    mss: Literal["auto", "lower", "off"] = "auto"
    mss_table: Whole = Field(6080, ge=1, le=MAX_TABLE)
    least_path_mtu: Whole = Field(LEAST_MTU, ge=LEAST_MTU, le=MAX_MTU)
    on_ready: tuple[str, ...] = ()
    on_withdraw: tuple[str, ...] = ()
    hook_timeout_seconds: Number = Field(10.0, gt=0, le=600)
    withdraw_settle_seconds: Number = Field(3.0, ge=0, le=600)
    controller_wait_seconds: Number = Field(60.0, ge=0, le=86400)
    log_format: Literal["console", "json"] | None = None
    metrics: MetricsConfig = Field(default_factory=lambda: MetricsConfig(port=9109))
    load: LoadConfig = Field(default_factory=LoadConfig)

    @field_validator("interface")
    @classmethod
    def _interface(cls, value: str) -> str:
        if not INTERFACE.fullmatch(value) or value in (".", "..", "lo"):
            raise ValueError("must be the name of a network interface other than lo, as 'eth0'")
        return value

    @field_validator("dip")
    @classmethod
    def _dip(cls, value: IPv4Address) -> IPv4Address:
        if value.is_multicast or value.is_loopback or value.is_unspecified:
            raise ValueError(f"must be this server's own unicast address, not {value}")
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        if not STORE.fullmatch(value):
            raise ValueError("must be file:DIR, http://HOST:PORT or https://HOST:PORT")
        return value.rstrip("/") if value.startswith("http") else value

    @field_validator("mss_table")
    @classmethod
    def _mss_table(cls, value: int) -> int:
        if value in KERNEL_TABLES:
            raise ValueError(f"must be a routing table of its own, not {value}, the kernel's")
        return value

    @field_validator("on_ready", "on_withdraw")
    @classmethod
    def _command(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and not value[0]:
            raise ValueError(f"must be a list of words, as {info.field_name} = ['birdc', 'enable']")
        return value

    @model_validator(mode="after")
    def _token_only_over_http(self) -> AgentConfig:
        if self.token_file is not None and is_file(self.store):
            raise ValueError("token_file is allowed only with an http: or https: store")
        if self.ca_file is not None and not self.store.startswith(TLS_SCHEME):
            raise ValueError("ca_file is allowed only with an https: store")
        return self


def load_agent_config(path: Path | str) -> AgentConfig:
    """Read an agent's settings; relative paths are relative to the file.

    Raises:
        ConfigError: one line that names the file, the key and what is allowed.

    """
    return validate(AgentConfig, _read_tables(path), path)


def _read_tables(path: Path | str) -> dict[str, Any]:
    base = Path(path).absolute().parent
    loaded = load_toml(path)
    if CONTROLLER_KEYS & loaded.keys() and not AGENT_KEYS & loaded.keys():
        raise ConfigError(f"{path}: is the file of a controller; name an agent's by --config")
    settings = with_absolute_paths(loaded, base, *PATH_KEYS)
    if isinstance(load := settings.get("load"), dict):
        settings["load"] = with_absolute_paths(load, base, "cgroup")
    return settings


@dataclass(frozen=True)
class Settings:
    """Settings that were found good. ``config`` has the paths that are read.

    ``needs_restart`` are keys whose new values are not in use. ``refused`` is why the file is not
    in use, but the last good settings.
    """

    config: AgentConfig
    accepted: Accepted
    needs_restart: Sequence[str] = ()
    refused: str = ""


class SettingsFile:
    """An agent's file, and the last good settings of it in the state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = structlog.get_logger()

    def read(self, in_use: Settings | None = None) -> Settings:
        """Read the file, and the token and the authority that it names.

        Keys that need a restart stay as they are ``in_use``.

        Raises:
            ConfigError: it is refused.

        """
        tables = _read_tables(self._path)
        validate(AgentConfig, tables, self._path)  # a restart will use all of it
        differing: Sequence[str] = ()
        if in_use:
            old = in_use.accepted.tables
            fixed = [key for key in AgentConfig.model_fields if key not in CHANGEABLE_KEYS]
            if old.get("store") != tables.get("store"):
                fixed += ACCESS_KEYS
            tables, differing = keep(old, tables, fixed)
        return self._checked(tables, differing)

    def start(self) -> Settings:
        """Read the file; if it is refused, return the last good settings.

        Raises:
            ConfigError: it is refused, and there are no last good settings.

        """
        try:
            return self.read()
        except ConfigError as error:
            saved = self._last_good()
            if saved is None:
                raise
            return replace(saved, refused=str(error))

    def save(self, settings: Settings) -> None:
        """Keep these as the last good ones; a failure is logged."""
        try:
            SavedSettings(settings.config.state_dir, self._path).save(settings.accepted)
        except StoreError as error:
            self._log.warning("the last good settings are not saved", reason=str(error))

    def _last_good(self) -> Settings | None:
        state_dir = key_of_text(self._path, "state_dir", DEFAULT_STATE_DIR)
        saved = SavedSettings(self._path.absolute().parent / state_dir, self._path)
        try:
            accepted = saved.load()
            if accepted is None:
                return None
            return replace(self._checked(saved.with_copies(accepted)), accepted=accepted)
        except (ConfigError, StoreError) as error:
            self._log.error("the last good settings cannot be used", reason=str(error))
            return None

    def _checked(self, tables: Mapping[str, Any], needs_restart: Sequence[str] = ()) -> Settings:
        config = validate(AgentConfig, tables, self._path)
        open_agent_store(config.store, config.token_file, config.ca_file).close()  # reads both
        contents = read_contents({"token_file": config.token_file, "ca_file": config.ca_file})
        return Settings(config, Accepted(tables, contents), needs_restart)
