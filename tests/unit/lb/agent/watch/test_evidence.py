"""Whether somebody takes the redirector's packets."""

from __future__ import annotations

from lb.agent.watch.evidence import ENOUGH_PACKETS, Evidence


def reading(passed: int, seen: int, verdict: str = "ok_not_gue") -> dict[str, int]:
    return {"pass_no_service": passed, "tx_forward": 10**6, verdict: seen}


def test_packets_that_only_the_forwarder_gets_are_evidence() -> None:
    evidence, found = Evidence(), []
    for passed, seen in ((1000, 5), (999 + ENOUGH_PACKETS, 5), (1000 + ENOUGH_PACKETS, 5)):
        evidence.add(reading(passed, seen))
        found.append(evidence.is_blind)
    evidence.add(reading(1000 + ENOUGH_PACKETS, 6))
    found.append(evidence.is_blind)
    assert found == [False, False, True, False], "what was before does not count; one arrives"


def test_silence_is_no_evidence() -> None:
    evidence = Evidence()
    for _ in range(100):
        evidence.add(reading(1000, 5))
    assert not evidence.is_blind


def test_every_verdict_of_the_redirector_counts() -> None:
    for verdict in ("accept_syn", "pass_on", "drop_gue_malformed", "drop_unknown_source"):
        evidence = Evidence()
        for number in range(50):
            evidence.add(reading(1000 * number, number, verdict))
            assert not evidence.is_blind


def test_frames_for_other_hosts_are_no_evidence() -> None:
    """The forwarder passes them as well; not all are the redirector's."""
    evidence = Evidence()
    for number in range(50):
        evidence.add({"pass_other_host": 1000 * number, "ok_not_gue": 1})
    assert not evidence.is_blind
