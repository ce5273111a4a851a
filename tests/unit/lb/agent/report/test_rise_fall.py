"""Rise and fall: a brief flap is ignored, never checked is not failing."""

from __future__ import annotations

import pytest

from lb.agent.report.rise_fall import RiseFall


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("g", "?"),
        ("gg", "?h"),
        ("bb", "??"),
        ("bbb", "??u"),
        ("gbgb", "????"),
        ("ggbbg", "?hhhh"),
        ("ggbbb", "?hhhu"),
        ("bbbgbg", "??uuuu"),
        ("bbbgg", "??uuh"),
        ("ggbbgbbgbb", "?hhhhhhhhh"),
    ],
)
def test_verdicts_follow_streaks(results: str, verdicts: str) -> None:
    state = RiseFall(rise=2, fall=3)
    seen = ""
    for result in results:
        state = state.observe(good=result == "g", reason="" if result == "g" else "refused")
        seen += {None: "?", True: "h", False: "u"}[state.healthy]
    assert seen == verdicts


def test_the_reason_is_that_of_the_last_bad_check_while_unhealthy() -> None:
    state = RiseFall(rise=2, fall=1).observe(good=False, reason="status 500")
    assert state.reason == "status 500"
    state = state.observe(good=True)
    assert (state.healthy, state.reason) == (False, "status 500")
    state = state.observe(good=True)
    assert (state.healthy, state.reason) == (True, "")
