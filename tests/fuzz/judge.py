"""One packet through a program and through the model: both results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.fuzz.kernel import CountersError, Program, Seen, window_now
from tests.fuzz.sockets import ServerSockets, model_flow
from tests.model import Config, Memory, Result, forward, redirect
from tests.model.result import Verdict

XDP_VERDICTS: Mapping[int, Verdict] = {1: "drop", 2: "pass", 3: "tx"}
TC_VERDICTS: Mapping[int, Verdict] = {0: "ok", 2: "drop", 7: "redirect"}
ANSWERS_A_WINDOW = 64
"""docs/wire.md, section 4.5."""
FRESH_SECONDS = 2.0
"""Well under the 5 s of docs/wire.md, section 6.4."""


def as_result(seen: Seen, verdicts: Mapping[int, Verdict], service: int | None) -> Result:
    """What a program did, in the model's words."""
    verdict = verdicts[seen.retval]
    return Result(verdict, seen.counter, None if verdict == "drop" else seen.data, service)


@dataclass
class ForwarderJudge:
    """The forwarder beside its model, with the memory that both have.

    `places` has the configuration's index of each service, by the kernel's index.
    """

    program: Program
    config: Config
    places: Mapping[int, int]
    memory: Memory = field(default_factory=Memory)
    window: int = -1

    def __post_init__(self) -> None:
        """Begin in a window in which no answer has been sent yet."""
        self._wait_for_next(window_now())

    def both(self, frame: bytes) -> tuple[Result, Result]:
        """Return the program's result and the model's."""
        seen = self.program.run(frame)
        service = None if seen.service is None else self.places[seen.service]
        got = as_result(seen, XDP_VERDICTS, service)
        if self.window != seen.windows[0]:
            self._enter(seen.windows[0])
        wanted = forward(frame, self.config, self.memory)
        if seen.windows[0] != seen.windows[1]:
            if got != wanted:
                self._enter(seen.windows[1])
                wanted = forward(frame, self.config, self.memory)
            self._wait_for_next(seen.windows[1])
        return got, wanted

    def _enter(self, window: int) -> None:
        self.window = window
        self.memory.answers_left = ANSWERS_A_WINDOW

    @staticmethod
    def _wait_for_next(window: int) -> None:
        """In which of two windows an answer was counted cannot be seen: both must be over."""
        while window_now() <= window:
            time.sleep(0.001)


@dataclass
class RedirectorJudge:
    """The redirector beside its model, with the memory and the sockets that both have.

    The kernel forgets fresh UDP flows after 5 s and SYNs after 64 s (docs/wire.md, sections 6.4 and
    6.5), and the model has no clock. Before that, `forget` makes both of the kernel's memories have
    the SYNs of the sockets' requests and nothing else, and the model's are made so, too.
    """

    program: Program
    config: Config
    sockets: ServerSockets
    memory: Memory = field(default_factory=Memory)
    forget: Callable[[], None] = lambda: None
    since: float = -FRESH_SECONDS

    def both(self, frame: bytes) -> tuple[Result, Result]:
        """Return the program's result and the model's."""
        if time.monotonic() - self.since > FRESH_SECONDS:
            self.begin_anew()
        got = as_result(self.program.run(frame), TC_VERDICTS, None)
        self.sockets.frame = frame
        return got, redirect(frame, self.config, self.sockets, self.memory)

    def begin_anew(self) -> None:
        """Forget, and remember the SYNs of requests."""
        self.forget()
        self.memory.fresh.forget()
        self.memory.openings.forget()
        for flow, sequence in self.sockets.openings.items():
            self.memory.openings.remember(model_flow(flow), sequence)
        self.since = time.monotonic()


Judge = ForwarderJudge | RedirectorJudge


@dataclass(frozen=True)
class Difference:
    """A packet on which they disagree, and where it came from.

    `packets` is how many the round has, `number` which of its program's packets it is.
    """

    program: str
    seed: int
    round: int
    packets: int
    number: int
    frame: bytes
    got: str
    wanted: str

    def __str__(self) -> str:
        return (
            f"{self.program}: packet {self.number} of round {self.round} (seed {self.seed})\n"
            f"  repeat  python -m tests.fuzz --seed {self.seed} --round {self.round}"
            f" --packets {self.packets}\n"
            f"  frame   {self.frame.hex()}\n  kernel  {self.got}\n  model   {self.wanted}"
        )


def describe(result: Result, other: Result) -> str:
    """A result, with the first byte in which its frame differs from another's."""
    text = f"{result.verdict} {result.counter} service={result.service}"
    if result.frame is None:
        return text
    if other.frame is not None and result.frame != other.frame:
        pairs = enumerate(zip(result.frame, other.frame, strict=False))
        length = min(len(result.frame), len(other.frame))
        first = next((at for at, (ours, theirs) in pairs if ours != theirs), length)
        text += f" differs at byte {first}"
    return f"{text} frame={result.frame.hex()}"


def first_difference(
    judge: Judge, frames: Sequence[bytes], agreed: list[Result]
) -> tuple[str, str] | None:
    """Feed frames until there is a difference; what came of those before it goes to `agreed`."""
    for frame in frames:
        try:
            got, wanted = judge.both(frame)
        except CountersError as error:
            return str(error), "one counter by one"
        if got != wanted:
            return describe(got, wanted), describe(wanted, got)
        agreed.append(got)
    return None


def shortest(judge: Judge, frame: bytes, least: int) -> bytes:
    """A shorter frame with the same two counters, if it needs none of the packets before it."""
    wanted = _counters(judge, frame)
    if wanted is None:
        return frame
    best, step = frame, len(frame) // 2
    while step:
        while len(best) - step >= least and _counters(judge, best[:-step]) == wanted:
            best = best[:-step]
        step //= 2
    return best


def _counters(judge: Judge, frame: bytes) -> tuple[str, ...] | None:
    """How they disagree about a frame; None if they do not."""
    answers = first_difference(judge, [frame], [])
    return answers and tuple(" ".join(answer.split()[:2]) for answer in answers)
