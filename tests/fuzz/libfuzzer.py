"""`python -m tests.fuzz.libfuzzer`: the programs as ordinary C under libFuzzer and sanitizers.

Begins from the frames of a campaign. Ends with one line; exit status 1 on a finding, with the input
kept in the current folder. Needs no root and no BPF.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import forwarder_frames
from tests.fuzz.host_build import BuildError, build
from tests.fuzz.offline import Offline
from tests.fuzz.redirector_frames import Tunnels
from tests.fuzz.scene import Scene, random_config
from tests.fuzz.traffic import Traffic
from tests.model import Config

COMPILER = "clang"
SANITIZERS = (
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
    # the kernel lets programs read unaligned words where the machine can
    "-fno-sanitize=alignment",
)
SEEDS = 4000
MOST_BYTES = 4096
FILLERS = (4, 2, 1)
"""The configuration's own pools lie on both sides of the last inline table (bpf/abi.h)."""
MOST_SEED = (1 << 31) - 2
GRACE_SECONDS = 300


def build_target(folder: Path) -> Path:
    """Compile the target."""
    return build("libfuzzer.c", folder / "target", COMPILER, *SANITIZERS)


def write_seeds(config: Config, rng: random.Random, folder: Path) -> None:
    """Frames of all kinds, as the target takes its input."""
    folder.mkdir()
    traffic = Traffic.of(rng, Scene(config))
    kinds = (
        forwarder_frames.frames(traffic, SEEDS // 2),
        Tunnels(traffic, ()).frames(SEEDS // 2),
    )
    for program, frames in enumerate(kinds):
        for number, frame in enumerate(frames):
            head = bytes([program | rng.randrange(32) & ~1, rng.choice((0, 28, 100, 255))])
            (folder / f"{program}-{number}").write_bytes(head + frame)


@dataclass(frozen=True)
class Outcome:
    """What came of it: inputs that ran, features of the code that they reached, and output.

    `findings` are the outputs of runs that ended with a finding.
    """

    inputs: int
    features: int
    findings: tuple[str, ...]


def fuzz(folder: Path, keep: Path, seconds: int, seed: int, jobs: int) -> Outcome:
    """Run the target for so long; an input that is a finding stays in `keep`.

    Raises:
        BuildError: the compiler is missing or refuses.

    """
    rng = random.Random(seed)
    config = random_config(rng)
    state, corpus = folder / "state", folder / "corpus"
    with Offline(config, FILLERS) as offline:
        state.write_bytes(offline.state())
    write_seeds(config, rng, corpus)
    target = build_target(folder)
    command = [
        *(str(target), str(corpus), f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}"),
        *("-print_final_stats=1", f"-artifact_prefix={keep}/libfuzzer-"),
    ]
    environment = {**os.environ, "LB_FUZZ_STATE": str(state)}
    runs = [
        subprocess.Popen(
            [*command, f"-seed={(seed + job) % MOST_SEED + 1}"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for job in range(jobs)
    ]  # fmt: skip
    outputs = [run.communicate(timeout=seconds + GRACE_SECONDS)[0] for run in runs]
    return Outcome(
        inputs=sum(map(int, re.findall(r"number_of_executed_units: (\d+)", "".join(outputs)))),
        features=max(map(int, re.findall(r" ft: (\d+) ", "".join(outputs))), default=0),
        findings=tuple(
            output for output, run in zip(outputs, runs, strict=True) if run.returncode != 0
        ),
    )


def main() -> int:
    """Fuzz for as long as was asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.libfuzzer", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bucket-brigade-fuzz-") as folder:
        try:
            outcome = fuzz(Path(folder), Path.cwd(), asked.seconds, asked.seed, asked.jobs)
        except BuildError as error:
            print(error, file=sys.stderr)
            return 2
    print("\n".join(outcome.findings), file=sys.stderr)
    said = "a finding, see above" if outcome.findings else "no finding"
    print(
        f"libFuzzer: {outcome.inputs:,} inputs in {asked.seconds} s, "
        f"{outcome.features:,} features, "
        f"seed {asked.seed}: {said}"
    )
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
