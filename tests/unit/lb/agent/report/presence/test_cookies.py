"""The age of the last SYN cookie, by the kernel's counter."""

from __future__ import annotations

from lb.agent.report.presence.cookies import LOOK_SECONDS, NETSTAT, CookieAge, cookies_sent

PAGE = """TcpExt: SyncookiesSent SyncookiesRecv EmbryonicRsts
TcpExt: 12 3 4
IpExt: InNoRoutes SyncookiesSent
IpExt: 9 9
"""


class Counter:
    """A counter that a test changes."""

    def __init__(self) -> None:
        self.sent: int | None = 5
        self.age = CookieAge(self.read)

    def read(self) -> str:
        if self.sent is None:
            raise OSError("gone")
        return PAGE.replace("TcpExt: 12", f"TcpExt: {self.sent}")


def test_the_counter_is_read_by_its_name() -> None:
    assert cookies_sent(PAGE) == 12
    assert cookies_sent("TcpExt: EmbryonicRsts\nTcpExt: 4\n") is None
    assert cookies_sent("") is None


def test_this_kernel_has_it() -> None:
    assert cookies_sent(NETSTAT.read_text("ascii")) is not None


def test_at_first_the_age_is_how_long_it_has_looked() -> None:
    counter = Counter()
    assert counter.age.age(1000.0) == 0.0
    assert counter.age.age(1030.0) == 30.0
    assert counter.age.age(1000.0 + LOOK_SECONDS - 1) == LOOK_SECONDS - 1
    assert counter.age.age(1000.0 + LOOK_SECONDS) is None


def test_a_cookie_counts_from_when_it_was_seen() -> None:
    counter = Counter()
    counter.age.age(1000.0)
    counter.sent = 6
    assert counter.age.age(1500.0) == 0.0
    assert counter.age.age(1620.0) == 120.0, "a number from then on"
    counter.sent = 9
    assert counter.age.age(1700.0) == 0.0
    counter.sent = 1  # began again
    assert counter.age.age(1800.0) == 0.0


def test_what_cannot_be_read_is_no_good_news() -> None:
    counter = Counter()
    counter.age.age(1000.0)
    counter.sent = None
    assert counter.age.age(1500.0) == 0.0
    assert counter.age.age(1600.0) == 0.0
    counter.sent = 5
    assert counter.age.age(1650.0) == 50.0
