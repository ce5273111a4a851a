"""When the certificates that this agent uses end."""

from __future__ import annotations

import structlog

from controlplane.domain.errors import ConfigError
from controlplane.store.http.validity import authorities_end
from lb.agent.config import AgentConfig
from lb.agent.facts import SharedFacts


def note_certificates(config: AgentConfig, facts: SharedFacts) -> None:
    """Note when the authorities in use end: the file may change before it is read again."""
    ends = {}
    if config.ca_file is not None:
        try:
            ends["ca_file"] = authorities_end(config.ca_file)
        except ConfigError as error:
            structlog.get_logger().warning("a certificate's end is not known", reason=str(error))
    facts.update(certificates=ends)
