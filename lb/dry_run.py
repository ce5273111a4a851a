"""`lbctl up --dry-run`: what would change. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from controlplane.documents.check import decode_cluster
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import Cluster, Vip
from controlplane.domain.vips import has_ipv6, in_order
from controlplane.store.contract import StoreError
from controlplane.store.open import open_agent_store
from controlplane.store.state_dir import StateDir
from lb.agent.attach import bpffs, clsact, xdp
from lb.agent.attach.attachment import Attachment
from lb.agent.attach.in_front import in_front_line, in_front_remedy, programs_in_front
from lb.agent.attach.program_info import describe_program
from lb.agent.config import AgentConfig
from lb.agent.documents.cluster_view import cluster_vips, deepest
from lb.agent.documents.last_good import read_last_good
from lb.agent.machine import sysctls
from lb.agent.machine.ethtool import vlan_warning
from lb.agent.machine.lock import find_holder
from lb.agent.mss.goal import VipPaths, goal_for, table_taken
from lb.agent.mss.mirror import foreign_routes
from lb.agent.mss.rules import ANY_SOURCE, MAX_PREFIXES, RULE_PRIORITY, rule_text, rules_wanted
from lb.agent.netlink.answer_links import answer_links
from lb.agent.netlink.links import LinkInfo, has_vlans
from lb.agent.netlink.messages import FAMILY
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.vips.addresses import local_vips
from lb.agent.vips.conflicts import find_conflicts
from lb.agent.watch.preflight import check_interface, check_root, link_warnings
from lb.agent.watch.start import open_journal

REFUSE = "refuse"
"""How the line begins of something that `lbctl up` refuses."""


def plan_up(config: AgentConfig) -> Iterator[str]:
    """Yield a line for each thing that `lbctl up` would do here, in its order.

    Raises:
        BrigadeError: `lbctl up` would refuse at once.

    """
    check_root("up")
    with RouteSocket() as netlink:
        link = check_interface(netlink, config)
        holder = find_holder(config.interface)
        if holder:
            yield f"{REFUSE}: {config.interface} belongs to {holder}, which runs `lbctl up`"
        attachment = Attachment(netlink, link, config, open_journal(config))
        attachment.check()
        yield from _pins(config)
        yield from _programs(netlink, link, config, attachment)
        for path, (old, new) in sysctls.needed_sysctls(link.name, sysctls.read_sysctl).items():
            yield f"set {path.replace('/', '.')} to {new} (now {old})"
        cluster, source = _cluster(config)
        if cluster is None:
            yield f"no VIPs: no valid documents ({source})"
        else:
            ours = frozenset(open_journal(config).record.vips)
            yield from _vips(netlink, cluster_vips(cluster), ours, source)
            paths = VipPaths(cluster_vips(cluster), deepest(cluster.pools))
            yield from _mss(netlink, config, link, paths)
        yield from _warnings(netlink, config, link, cluster)
    if config.on_ready:
        yield f"once ready, run: {' '.join(config.on_ready)}"


def _pins(config: AgentConfig) -> Iterator[str]:
    mounted = bpffs.mounts()
    point = bpffs.mount_point(config.bpffs, mounted)
    if point not in mounted:
        yield f"mount a BPF file system on {point}"
    yield f"pin programs and maps in {config.bpffs / bpffs.pin_name(config.interface)}"


def _programs(
    netlink: RouteSocket, link: LinkInfo, config: AgentConfig, attachment: Attachment
) -> Iterator[str]:
    if not clsact.has_clsact(netlink, link.index):
        yield f"add a clsact qdisc to {link.name}"
    ours = sorted(attachment.our_redirectors())
    yield _attached("redirector", f"tc ingress of {link.name}", ours)
    ours = sorted(attachment.egress.ours())
    yield _attached("egress program", f"tc egress of {link.name}", ours)
    for name in answer_links(netlink):
        if name != link.name:
            yield _attached("egress program", f"tc egress of {name}", ours)
    attached = xdp.query_xdp(netlink, link.index)
    where = f"XDP of {link.name}, {config.xdp_mode} mode"
    yield _attached("forwarder", where, sorted(attached.ids))
    for other in programs_in_front(netlink, link.index):
        yield f"warn: {in_front_line(link.name, other)}; {in_front_remedy(link.name)}"


def _attached(program: str, where: str, old: list[int]) -> str:
    if old:
        return f"replace {program} {describe_program(old[-1])} on {where}"
    return f"attach the {program} to {where}"


def _warnings(
    netlink: RouteSocket, config: AgentConfig, link: LinkInfo, cluster: Cluster | None
) -> Iterator[str]:
    vips = cluster_vips(cluster) if cluster else ()
    depth = deepest(cluster.pools if cluster else ())
    lines = [*link_warnings(config, link, vips, depth).values()]
    if has_vlans(netlink, link.index):
        lines.append(vlan_warning(link.name))
    yield from (f"warn: {line}" for line in lines if line is not None)


def _vips(
    netlink: RouteSocket, vips: frozenset[Vip], ours: frozenset[Vip], source: str
) -> Iterator[str]:
    """Yield the VIPs to be put up, and what IPv6 ones need; ``ours`` are up already."""
    present = local_vips(netlink)
    conflicts = find_conflicts(netlink, vips, present - ours)
    if has_ipv6(vips):
        for path, (old, new) in sysctls.needed_for_ipv6(sysctls.read_sysctl).items():
            yield f"set {path.replace('/', '.')} to {new} (now {old})"
    for vip in in_order(vips):
        if vip in conflicts:
            yield f"warn: {conflicts[vip]}"
            continue
        yield f"{'leave' if vip in present else 'add'} {vip} on lo ({source})"


def _mss(
    netlink: RouteSocket, config: AgentConfig, link: LinkInfo, paths: VipPaths
) -> Iterator[str]:
    """Yield how replies from VIPs will be routed, if not by the main table."""
    goal = goal_for(paths, config.mss, config.mss_table, link.mtu)
    if not goal.vips:
        return
    others = foreign_routes(netlink, goal.table)
    if others:
        yield f"warn: {table_taken(goal.table, others)}"
        return
    yield (
        f"mirror the main routing table in table {goal.table}, with an MSS that leaves "
        f"{goal.overhead} bytes for the encapsulation"
    )
    for version in FAMILY:
        for prefix in in_order(rules_wanted(goal.vips, version)):
            many = f" (more than {MAX_PREFIXES} separate VIPs, so own connections too)"
            note = many if prefix == ANY_SOURCE[version] else ""
            yield f"add a rule of priority {RULE_PRIORITY}: {rule_text(prefix, goal.table)}{note}"


def _cluster(config: AgentConfig) -> tuple[Cluster | None, str]:
    """Return the cluster document and where it came from."""
    data, source = None, f"store {config.store}"
    try:
        with closing(open_agent_store(config.store, config.token_file, config.ca_file)) as store:
            version = store.latest("cluster")
        data = version.data if version else None
    except StoreError as error:
        source = str(error)
    if data is None:
        data = read_last_good(StateDir(config.state_dir)).cluster
        source = "last good documents" if data else source
    if data is None:
        return None, source
    try:
        return decode_cluster(data), source
    except DocumentError as error:
        return None, str(error)
