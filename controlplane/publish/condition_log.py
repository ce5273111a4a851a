"""Logs a condition when it begins, when it changes and when it ends."""

from __future__ import annotations

import structlog


class ConditionLog:
    """Remembers conditions between rounds. For one thread."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._values: dict[tuple[str, str], object] = {}

    def set(self, event: str, about: str, value: object, *, level: str = "warning") -> None:
        """Log ``event`` if ``value`` changed to something truthy, ``event: over`` if it ended."""
        key = (event, about)
        before = self._values.get(key)
        if value == before:
            return
        if value:
            self._values[key] = value
            detail = value if isinstance(value, str) else _plain(value)
            getattr(self._log, level)(event, about=about, detail=detail)
        elif before is not None:
            del self._values[key]
            self._log.info(f"{event}: over", about=about)


def _plain(value: object) -> object:
    if isinstance(value, (tuple, set, frozenset, list)):
        return ", ".join(sorted(str(part) for part in value))
    return value
