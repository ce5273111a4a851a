"""The command `lbctl bench`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lb.cli._options import json_file_option, write_json

EPILOG = "Exit codes: 0 success, 1 failed, 2 wrong usage."
WIDTH = 78


@click.group(epilog=EPILOG)
def command() -> None:
    """Measure the cost of a packet, a table, or a dump of sockets."""


@command.command(epilog=EPILOG)
@json_file_option
@click.option("--quick", is_flag=True, help="Run fewer rounds, with one size.")
def control(json_path: Path | None, quick: bool) -> None:
    """Measure the time and the memory of building a table."""
    from lb.bench.control import OTHER_SIZES, measure, measure_pools
    from lb.bench.control_report import as_json, show

    rows = measure(rounds=5) if quick else measure()
    others = [] if quick else [row for size in OTHER_SIZES for row in measure(size, rounds=5)]
    pools_ms = measure_pools()
    if not write_json(json_path, as_json(rows, others, pools_ms)):
        show(rows, others, pools_ms)


@command.command(epilog=EPILOG)
@json_file_option
@click.option(
    "--pin",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Create DIR on a bpffs; leave DIR/forwarder and DIR/redirector there with filled maps.",
)
@click.option(
    "--packets",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the packets of the row tcp4_ack to this pcap file.",
)
@click.option(
    "--quick", is_flag=True, help="Run for some seconds only: an estimate, not a measurement."
)
def dataplane(json_path: Path | None, pin: Path | None, packets: Path | None, quick: bool) -> None:
    """Measure a packet's cost against a program that decides nothing."""
    from lb.bench.dataplane import Effort, measure, tcp4_ack_frames
    from lb.bench.dataplane_report import as_json, as_table
    from lb.bench.frames import write_pcap

    if pin is not None:
        _check_pin(pin)
    effort = Effort.quick() if quick else Effort()
    if packets is not None:
        write_pcap(packets, tcp4_ack_frames())
    measured = measure(effort, _show_progress, pin=pin)
    if sys.stderr.isatty():
        click.echo(f"\r{'':{WIDTH}}\r", nl=False, err=True)
    if not write_json(json_path, as_json(measured, effort)):
        click.echo(as_table(measured))


@command.command(epilog=EPILOG)
@json_file_option
def presence(json_path: Path | None) -> None:
    """Measure what an agent pays to know where its connections are.

    It opens 100,000 connections in a network namespace of its own. Needs root.
    """
    from lb.bench.presence import as_json, measure

    rows = measure()
    if write_json(json_path, as_json(rows)):
        return
    for row in rows:
        click.echo(
            f"{row.connections:>7,} connections: {row.dump_cpu_ms:.1f} ms of CPU time a dump, then "
            f"a pause of {row.pause_seconds:.1f} s: {row.core_percent:.2f} % of one core; "
            f"{row.memory_mib:.1f} MiB of memory"
        )


def _show_progress(text: str) -> None:
    """Show progress: on one line of a terminal, elsewhere a line for each load."""
    if sys.stderr.isatty():
        click.echo(f"\r{text:{WIDTH}}", nl=False, err=True)
    elif "round" not in text:
        click.echo(text, err=True)


def _check_pin(pin: Path) -> None:
    """Refuse now what would fail after the measurement; mount the usual bpffs if `pin` is on it."""
    from controlplane.domain.errors import UsageError
    from lb.agent.attach.bpffs import USUAL_MOUNT, mount_point, mounts, prepare

    if pin.exists():
        raise UsageError(f"--pin {pin}: exists already; name a new folder or remove it")
    point = mount_point(pin.absolute(), mounts())
    if point == USUAL_MOUNT:
        prepare(USUAL_MOUNT)
    elif point not in mounts():
        raise UsageError(
            f"--pin {pin}: not on a BPF file system; name a folder under {USUAL_MOUNT}, "
            "or mount one (mount -t bpf bpf DIR)"
        )
