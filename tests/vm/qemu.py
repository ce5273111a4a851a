"""A virtual machine as a command line: one kernel, shared folders, two network cards, no disk.

Emulated (TCG), so that it runs the same on every host, those without /dev/kvm included.
"""

from __future__ import annotations

from pathlib import Path

from tests.vm.kernels import Kernel

MEMORY_MIB = 3072
PROCESSORS = 2
QUEUES = 4
"""Native XDP takes one sending queue for each processor, beside the usual one (virtio_net.c)."""
CABLE_ENDS = ("a", "b")
INTERFACES = ("eth0", "eth1")
"""What the kernel calls the two network cards, which one cable joins."""
MTU = 1600
MACHINE = Path(__file__).with_name("machine.sh")


def _share(tag: str, folder: Path) -> list[str]:
    backend = f"local,id={tag},path={folder},security_model=none,readonly=on,multidevs=remap"
    return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _card(end: str, number: int) -> list[str]:
    backend = f"tap,id=net{end},ifname=wire0{end},script=no,downscript=no,queues={QUEUES}"
    device = (
        f"virtio-net-pci,netdev=net{end},mac=02:bb:00:00:00:{number:02x},"
        f"mq=on,vectors={2 * QUEUES + 2},host_mtu={MTU}"
    )
    return ["-netdev", backend, "-device", device]


def command(kernel: Kernel, root: Path, bcc: Path, console: Path, steps: str) -> list[str]:
    """Return what runs guest.sh in a machine; the guest's words come from standard output."""
    words = [*("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max")]
    words += ["-smp", str(PROCESSORS), "-m", str(MEMORY_MIB)]
    words += ["-nodefaults", "-no-reboot", "-display", "none"]
    words += ["-kernel", str(kernel.image), "-initrd", str(kernel.initramfs)]
    arguments = " ".join([steps, *INTERFACES])
    words += ["-append", f"console=ttyS0 quiet panic=-1 mitigations=off -- {arguments}"]
    words += ["-serial", f"file:{console}", "-serial", "stdio"]
    for tag, folder in (("root", root), ("kernel", kernel.layer), ("bcc", bcc)):
        words += _share(tag, folder)
    for number, end in enumerate(CABLE_ENDS, start=1):
        words += _card(end, number)
    return ["bash", str(MACHINE), "1", *words]
