"""The command `lbctl bench dataplane`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from controlplane.domain.errors import UsageError
from lb.agent.attach.bpffs import USUAL_MOUNT, mount_point, mounts, prepare
from lb.bench.dataplane import Effort, measure, tcp4_ack_frames
from lb.bench.dataplane_report import as_json, as_table
from lb.bench.frames import write_pcap

WIDTH = 78


def show_progress(text: str) -> None:
    """Show progress: on one line of a terminal, elsewhere a line for each load."""
    if sys.stderr.isatty():
        click.echo(f"\r{text:{WIDTH}}", nl=False, err=True)
    elif "round" not in text:
        click.echo(text, err=True)


@click.command(epilog="Exit codes: 0 success, 1 failed, 2 wrong usage.")
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    help="Write the result as JSON to this file; - is standard output.",
)
@click.option(
    "--pin",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Create DIR on a bpffs, and leave DIR/forwarder and DIR/redirector there with filled maps.",
)
@click.option(
    "--packets",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the packets of the row tcp4_ack to this pcap file.",
)
@click.option("--quick", is_flag=True, help="Run for some seconds only: an estimate, not a measurement.")
def command(json_file: str | None, pin: Path | None, packets: Path | None, *, quick: bool) -> None:
    """Measure a packet's cost against a program that decides nothing."""
    if pin is not None:
        _check_pin(pin)
    effort = Effort.quick() if quick else Effort()
    if packets is not None:
        write_pcap(packets, tcp4_ack_frames())
    measured = measure(effort, show_progress, pin=pin)
    if sys.stderr.isatty():
        click.echo(f"\r{'':{WIDTH}}\r", nl=False, err=True)
    text = json.dumps(as_json(measured, effort), indent=2)
    if json_file == "-":
        click.echo(text)
        return
    if json_file is not None:
        Path(json_file).write_text(text + "\n", encoding="utf-8")
    click.echo(as_table(measured))


def _check_pin(pin: Path) -> None:
    """Refuse now what would fail after the measurement; mount the usual bpffs if `pin` is on it."""
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
