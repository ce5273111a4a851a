"""Saying each thing once: when it begins, when it changes, when it ends."""

from __future__ import annotations

import structlog


class Say:
    """Logs a condition when it changes, not once a round. One loop's; not for threads."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._said: dict[tuple[str, str], object] = {}

    def while_true(self, event: str, about: str, value: object, *, level: str = "warning") -> None:
        """Log ``event`` when ``value`` changes to something truthy, and when that is over."""
        key = (event, about)
        before = self._said.get(key)
        if value == before:
            return
        if value:
            self._said[key] = value
            detail = value if isinstance(value, str) else _plain(value)
            getattr(self._log, level)(event, about=about, detail=detail)
        elif before is not None:
            del self._said[key]
            self._log.info(f"{event}: over", about=about)


def _plain(value: object) -> object:
    if isinstance(value, (tuple, set, frozenset, list)):
        return ", ".join(sorted(str(part) for part in value))
    return value
