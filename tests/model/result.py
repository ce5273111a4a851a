"""What a program says about one packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "drop", "tx", "ok", "redirect"]


@dataclass(frozen=True)
class Result:
    """Verdict, counter and the frame afterwards (wire.md, sections 4 and 6).

    The forwarder says ``pass``, ``drop`` or ``tx``. The redirector says ``ok`` (untouched or
    accepted: on to the local stack), ``drop`` or ``redirect`` (passed on). ``counter`` is the name
    in wire.md, ``frame`` is None after a drop. ``service`` is the place in ``Config.services`` of
    the service whose packets grow by 1 and whose bytes grow by the length of the frame that came
    in; None when no service counts the packet.
    """

    verdict: Verdict
    counter: str
    frame: bytes | None
    service: int | None = None
