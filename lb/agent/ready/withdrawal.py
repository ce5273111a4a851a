"""Withdraws this server's routes at the start of an agent, before its parts run."""

from __future__ import annotations

from lb.agent.config import AgentConfig
from lb.agent.facts import SharedFacts
from lb.agent.machine.undo_record import Journal
from lb.agent.ready.announcer import ON_WITHDRAW, READY_FILE, hook_variables
from lb.agent.ready.hooks import run_hook


def withdraw(config: AgentConfig, journal: Journal, facts: SharedFacts) -> None:
    """Run ``on_withdraw`` if an earlier agent announced routes; then remove the ready file.

    Raises:
        BrigadeError: the hook failed; the routes count as announced.

    """
    if not journal.record.announced:
        return
    if config.on_withdraw:
        variables = hook_variables(config, journal.record.vips)
        run_hook(ON_WITHDRAW, config.on_withdraw, config.hook_timeout_seconds, variables)
        facts.count_hook(ON_WITHDRAW, "ok")
    (config.run_dir / READY_FILE).unlink(missing_ok=True)
    journal.note(announced=False)
