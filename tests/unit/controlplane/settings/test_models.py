"""A controller's file: defaults, and one line for whatever is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from controlplane.domain.bounds import MAX_CHECKED_SERVICES, MAX_SERVICES
from controlplane.domain.errors import ConfigError
from controlplane.domain.objects import TCP, UDP, CheckType, Cluster, Pool, Server, ServerState
from controlplane.settings.load import load_control_config
from controlplane.settings.models import ControlConfig
from controlplane.settings.rules import check_against, fixed_faults, kept_notes

GOOD = """
probers = ["10.0.0.9"]
[[server]]
name = "a"
dip = "10.1.0.1"
[[server]]
name = "b"
dip = "10.1.0.2"
pools = ["web"]
[[pool]]
name = "web"
[[pool]]
name = "dns"
drain_time_seconds = 60
[[service]]
name = "http"
vip = "192.0.2.1"
protocol = "tcp"
port = 80
pool = "web"
[service.check]
type = "http"
path = "/health"
[[service]]
name = "dns"
vip = "192.0.2.1"
protocol = "udp"
port = 53
pool = "dns"
"""


def load(tmp_path: Path, text: str) -> ControlConfig:
    path = tmp_path / "control.toml"
    path.write_text(text)
    return load_control_config(path)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_chains_may_be_up_to_four_deep(tmp_path: Path, depth: int) -> None:
    text = GOOD.replace('name = "dns"\ndrain', f'name = "dns"\ndepth = {depth}\ndrain')
    assert [pool.depth for pool in load(tmp_path, text).pool] == [None, depth]


def test_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.store == "file:/var/lib/bucket-brigade/store"
    assert config.gue_port == 6080
    assert config.tick_seconds == 1.0
    assert config.silent_after_seconds == 1.0
    assert (config.probe_interval_seconds, config.probe_count) == (0.17, 3)
    assert (config.silent_wait_seconds, config.slow_start_seconds) == (30, 30)
    assert config.panic_threshold == 0.5
    assert (config.metrics.address, config.metrics.port) == ("127.0.0.1", 9108)
    assert config.listen is None
    web = config.pool[0]
    assert (web.buckets, web.depth, web.drain_time_seconds, web.cap) == (65536, None, 900, 1.5)
    assert (web.balance, web.load) == ("load", "agents")
    http = config.service[0].domain()
    assert (http.vip, http.protocol, http.port) == (IPv4Network("192.0.2.1"), TCP, 80)
    assert (http.check.type, http.check.path) == (CheckType.HTTP, "/health")
    assert config.server[0].serves("dns")
    assert not config.server[1].serves("dns")


def test_old_hops_are_forgotten_only_where_udp_would_make_the_detour(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    web, dns = config.pool
    assert config.forget_after_seconds(web) is None
    assert config.forget_after_seconds(dns) == 60
    stateless = load(tmp_path, GOOD + "stateless = true\n")
    assert stateless.forget_after_seconds(dns) is None


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    listen = '[listen]\naddress = "127.0.0.1"\nport = 7080\ntoken_file = "token"\n'
    config = load(tmp_path, 'store = "file:store"\n' + GOOD + listen)
    assert config.store == f"file:{tmp_path}/store"
    assert config.listen
    assert config.listen.token_file == tmp_path / "token"
    assert config.listen.certificate is None


def test_a_list_of_probers_stays_before_the_tables(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).probers == (IPv4Address("10.0.0.9"),)


SERVER_C = '[[server]]\nname = "c"\n'
LISTEN = '[listen]\naddress = "127.0.0.1"\nport = 7080\n'


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('vip = "192.0.2.1"', 'vip = "10.1.0.2"', "service[1].vip: must not cover a DIP"),
        ('vip = "192.0.2.1"', 'vip = "10.1.0.0/30"', "must not cover a DIP, 10.1.0.1 is server 'a"),
        ('vip = "192.0.2.1"', 'vip = "10.0.0.8/29"', "must not cover a prober, as 10.0.0.9"),
        ('vip = "192.0.2.1"', 'vip = "192.0.2.1/24"', "service[1].vip: must not have bits set"),
        ('vip = "192.0.2.1"', 'vip = "::/0"', "service[1].vip: must be a prefix of /16 to /128"),
        ('vip = "192.0.2.1"', 'vip = "fe80::1"', "(link-local)"),
        ('vip = "192.0.2.1"', "vip = 3221225985", "service[1].vip: must be in quotes, as"),
        ('vip = "192.0.2.1"', 'vip = "a.example"', "service[1].vip: must be an address or a pre"),
        ("port = 80", 'port = "any"', 'service[1].check.port: is required with port = "any"'),
        ("port = 80", 'port = "80"', 'must be 1 to 65535 without quotes, or "any"; not '),
        ("port = 80", "port = true", "service[1].port: must be 1 to 65535"),
        ('type = "http"', 'type = "http"\nport = 0', "service[1].check.port: must be 1 to"),
        ('type = "http"', 'type = "http"\naddress = 1', "service[1].check.address: must be an ad"),
        (
            'type = "http"',
            'type = "http"\naddress = "192.0.2.2"',
            "service[1].check.address: must be part of the VIP 192.0.2.1, not 192.0.2.2",
        ),
        (
            'type = "http"',
            'type = "http"\naddress = "2001:db8::1"',
            "service[1].check.address: must be part of the VIP",
        ),
        (
            'vip = "192.0.2.1"',
            'vip = "224.0.0.1"',
            "service[1].vip: must be an address that clients can",
        ),
        ("port = 80", "port = 0", "service[1].port: must be 1 to 65535"),
        ("port = 80", 'port = "80x"', "service[1].port: must be 1 to 65535"),
        ('protocol = "tcp"', 'protocol = "sctp"', "service[1].protocol: must be 'tcp' or 'udp'"),
        ('pool = "web"', 'pool = "mail"', "service[1].pool: must be a pool (web, dns)"),
        ('pools = ["web"]', 'pools = ["mail"]', "server[2].pools: must name pools (web, dns)"),
        ('pools = ["web"]', "pools = []", "server[2].pools: must name a pool"),
        ('pools = ["web"]', 'pools = ["web", "web"]', "server[2].pools: names 'web' twice"),
        ('name = "b"', 'name = "a"', "server[2].name: must be unique"),
        ('name = "b"', 'name = "B"', "server[2].name: must be 1 to 63 of a-z"),
        ('name = "b"', 'name = "../x"', "server[2].name: must be 1 to 63 of a-z"),
        ('dip = "10.1.0.2"', 'dip = "10.1.0.1"', "server[2].dip: must be unique"),
        ('dip = "10.1.0.2"', 'dip = "fd00::1"', "server[2].dip: must be an IPv4"),
        ('dip = "10.1.0.2"', 'dip = "127.0.0.1"', "server[2].dip: must be the address of a host"),
        ('[[pool]]\nname = "dns"', '[[pool]]\nname = "web"', "pool[2].name: must be unique"),
        ('name = "dns"\ndrain', 'name = "dns"\ndepth = 5\ndrain', "pool[2].depth: must be 1 ("),
        ('name = "dns"\ndrain', 'name = "dns"\ndepth = 0\ndrain', "pool[2].depth: must be 1 ("),
        (
            'name = "dns"\ndrain',
            'name = "dns"\nbuckets = 1000\ndrain',
            "pool[2].buckets: must be a power of two from 256 to 1048576",
        ),
        (
            'name = "dns"\ndrain',
            'name = "dns"\nbuckets = 128\ndrain',
            "pool[2].buckets: must be a power of two",
        ),
        (
            'name = "dns"\ndrain',
            'name = "dns"\nhash_mode = "x"\ndrain',
            "hash_mode: must be 'flow'",
        ),
        ('name = "dns"\ndrain', 'name = "dns"\ncap = 0.5\ndrain', "pool[2].cap: must be 0"),
        ('name = "dns"\ndrain', 'name = "dns"\ncap = inf\ndrain', "pool[2].cap: "),
        (
            'name = "dns"\ndrain',
            'name = "dns"\nload = "prometheus"\ndrain',
            "pool[2].prometheus_url: is required",
        ),
        (
            'name = "dns"\ndrain',
            'name = "dns"\nquery = "up"\ndrain',
            'pool[2].query: is allowed only with load = "prometheus"',
        ),
        ('name = "http"', 'name = "dns"', "service[2].name: must be unique"),
        ("port = 80", "port = 80\nstateless = true", "service[1].stateless: is allowed only with"),
        ('type = "http"', 'type = "tcp"', "service[1].check.path: is allowed only with"),
        ('type = "http"', 'type = "ping"', "service[1].check.type: must be"),
        ('path = "/health"', 'path = "health"', "service[1].check.path: "),
        (
            'path = "/health"',
            'host = "http://x/"',
            "service[1].check.host: must be a name or an address, as 'www.example.com'",
        ),
        ('probers = ["10.0.0.9"]', 'probers = ["10.1.0.1"]', "probers[1]: must not be a DIP"),
        (
            'probers = ["10.0.0.9"]',
            'probers = ["192.0.2.1"]',
            "service[1].vip: must not cover a prober",
        ),
        ('probers = ["10.0.0.9"]', "proberz = []", "proberz: unknown key; did you mean 'probers'"),
        ('probers = ["10.0.0.9"]', "tick_seconds = 0", "tick_seconds: "),
        ('probers = ["10.0.0.9"]', 'store = "etcd:x"', "store: "),
        ('probers = ["10.0.0.9"]', "panic_threshold = nan", "panic_threshold: "),
        (
            'protocol = "udp"\nport = 53\npool = "dns"',
            'protocol = "tcp"\nport = 80\npool = "dns"',
            "service[2].port: 192.0.2.1:80 tcp is a service already",
        ),
        ('pools = ["web"]\n', f'pools = ["web"]\n{SERVER_C}', "server[3].dip: is required"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "server: is required"),
        (GOOD + LISTEN, "listen.token_file: is required"),
        (
            GOOD + LISTEN + 'token_file = "t"\ncertificate = "c"\n',
            "listen.private_key: is required with certificate",
        ),
        (
            GOOD + LISTEN.replace("7080", "9108") + 'token_file = "t"\n',
            "listen.port: must not be the metrics' port",
        ),
        (
            GOOD + LISTEN.replace("127.0.0.1", "192.0.2.1") + 'token_file = "t"\n',
            "service[1].vip: must not cover 192.0.2.1, where agents find the store",
        ),
        (GOOD + LISTEN.replace("127.0.0.1", "here") + 'token_file = "t"\n', "listen.address: "),
        (
            GOOD.replace('pool = "dns"', 'pool = "dns"\n[service.check]\ntype = "tcp"'),
            'service[2].check.type: must be "none" for a udp service',
        ),
        (
            GOOD.replace('dip = "10.1.0.1"', 'dip = "10.1.0.1"\npools = ["web"]'),
            "pool[2].name: no server serves 'dns'",
        ),
    ],
)
def test_what_is_missing_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert line in str(caught.value)


FORMS = """
[[service]]
name = "six"
vip = "2001:db8::10"
protocol = "tcp"
port = 443
pool = "web"
[[service]]
name = "every"
vip = "192.0.2.0/24"
protocol = "tcp"
port = "any"
pool = "web"
check = { type = "tcp", port = 80, address = "192.0.2.77" }
[[service]]
name = "both"
vip = "2001:db8:1::/64"
protocol = "udp"
port = "any"
pool = "web"
"""


def test_every_form_of_vip_and_port(tmp_path: Path) -> None:
    *_, six, every, both = load(tmp_path, GOOD + FORMS).domain_services
    assert (six.vip, six.protocol, six.port) == (IPv6Network("2001:db8::10"), TCP, 443)
    assert (every.vip, every.protocol, every.port) == (IPv4Network("192.0.2.0/24"), TCP, None)
    assert (every.check_address, every.check_port) == (IPv4Address("192.0.2.77"), 80)
    assert (both.vip, both.protocol, both.port) == (IPv6Network("2001:db8:1::/64"), UDP, None)


def test_an_http_check_may_name_its_host(tmp_path: Path) -> None:
    with_host = GOOD.replace('path = "/health"', 'host = "www.example.com"')
    assert load(tmp_path, GOOD).domain_services[0].check.host is None
    assert load(tmp_path, with_host).domain_services[0].check.host == "www.example.com"
    with pytest.raises(ConfigError, match=r"check\.host: is allowed only with type = \"http\""):
        load(tmp_path, with_host.replace('type = "http"', 'type = "tcp"'))


def test_one_place_has_one_service_and_a_port_beside_any_port_is_another(tmp_path: Path) -> None:
    """Most specific first: any port of a VIP, and prefixes around it, may have other pools."""
    again = 'name = "again"\nvip = "192.0.2.0/24"\nprotocol = "tcp"\nport = "any"\npool = "dns"\n'
    with pytest.raises(ConfigError, match=r"service\[6\].port: 192.0.2.0/24:any tcp is a service"):
        load(tmp_path, f"{GOOD}{FORMS}[[service]]\n{again}")
    beside = again.replace('"any"', "80").replace("0/24", "0/25")
    assert len(load(tmp_path, f"{GOOD}{FORMS}[[service]]\n{beside}").service) == 6


def test_ipv6_prefixes_have_few_lengths(tmp_path: Path) -> None:
    """As many as wanted of one length: each length is one more look-up for a packet."""

    def services(lengths: list[int]) -> str:
        return GOOD + "".join(
            f'[[service]]\nname = "six{n}"\nvip = "2001:{n:x}::/{length}"\nprotocol = "tcp"\n'
            'port = 80\npool = "web"\n'
            for n, length in enumerate(lengths, 1)
        )

    assert len(load(tmp_path, services([32, 33, 34, 35, 36, 37, 38, 64, 64])).service) == 11
    with pytest.raises(ConfigError, match="at most 8 prefix lengths, not /32, /33, "):
        load(tmp_path, services([32, 33, 34, 35, 36, 37, 38, 64, 65]))


def many(*services: tuple[str, int]) -> str:
    return GOOD + "".join(
        f'[[service]]\nname = "s{n}"\nvip = "{vip}"\nport = {port}\nprotocol = "tcp"\n'
        'pool = "web"\n'
        for n, (vip, port) in enumerate(services)
    )


def test_services_that_no_server_has_room_for_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """What servers would refuse is never published (docs/configuration.md, VIPs)."""
    close = [(f"198.51.{n >> 8}.{n & 0xFF}", 80) for n in range(1200)]
    assert len(load(tmp_path, many(*close)).service) == 1202
    apart = [(f"{20 + (n >> 8)}.{n & 0xFF}.{n & 0xFF}.1", 80) for n in range(600)]
    with pytest.raises(ConfigError, match=r"service: .* 1,2.. look-up nodes .* 1,024 .*prefixes$"):
        load(tmp_path, many(*apart))
    inside = [("198.51.0.0/16", port) for port in range(1, 101)] + close[:600]
    with pytest.raises(ConfigError, match=r"service: .* rows of 16,384; put fewer services"):
        load(tmp_path, many(*inside))


def test_a_pool_hashes_flows_unless_it_says_clients(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD.replace("drain_time", 'hash_mode = "client"\ndrain_time'))
    assert [pool.hash_mode for pool in config.pool] == ["flow", "client"]


def running(server: Server | None = None, pool: Pool | None = None) -> Cluster:
    servers = (server or Server("a", IPv4Address("10.1.0.1"), 1),)
    return Cluster(3, servers=servers, pools=(pool or Pool("web"),))


@pytest.mark.parametrize(
    ("cluster", "line"),
    [
        (running(pool=Pool("web", buckets=256)), "pool[1].buckets: is fixed for a pool's life"),
        (running(pool=Pool("web", hash_mode="client")), "pool[1].hash_mode: is fixed for a pool's"),
        (
            running(Server("a", IPv4Address("10.1.0.7"), 1)),
            "server[1].dip: must stay 10.1.0.7 while 'a' is in the cluster",
        ),
        (
            running(Server("old", IPv4Address("10.1.0.2"), 1)),
            "server[2].dip: 10.1.0.2 still belongs to 'old'",
        ),
        (
            running(Server("old", IPv4Address("192.0.2.1"), 1)),
            "service[1].vip: must not cover a DIP, 192.0.2.1 is 'old'",
        ),
    ],
)
def test_what_is_in_use_cannot_change(tmp_path: Path, cluster: Cluster, line: str) -> None:
    config = load(tmp_path, GOOD)
    check_against(config, running(), "f")
    with pytest.raises(ConfigError) as caught:
        check_against(config, cluster, "f")
    assert line in str(caught.value)


def test_a_pool_keeps_its_depth_and_only_a_file_that_names_another_is_refused(
    tmp_path: Path,
) -> None:
    """Stores of a version whose default was 2 go on, with files that never named a depth."""
    old = running(pool=Pool("web", depth=2))
    for text, line in (("", ""), ("depth = 2", ""), ("depth = 4", "pool[1].depth: is fixed for")):
        config = load(
            tmp_path, GOOD.replace('name = "web"\n[[pool]]', f'name = "web"\n{text}\n[[pool]]')
        )
        assert "".join(fixed_faults(config, old)).startswith(line), text
        assert bool(line) or not list(fixed_faults(config, old))
    assert [note.partition(";")[0] for note in kept_notes(load(tmp_path, GOOD), old)] == [
        "pool[1].depth: 'web' keeps depth 2, a new pool gets 4"
    ]
    assert not list(kept_notes(load(tmp_path, GOOD), running()))


def test_the_port_of_the_wrap_stays_while_servers_are_in_use(tmp_path: Path) -> None:
    """Servers take a document into use one by one; a silent one would be lost to the others."""
    config = load(tmp_path, "gue_port = 6081\n" + GOOD)
    registered = running()
    check_against(config, registered, "f")
    server = replace(registered.servers[0], state=ServerState.DRAINING)
    with pytest.raises(ConfigError, match="gue_port: must stay 6080 while servers are in use"):
        check_against(config, replace(registered, servers=(server,)), "f")


def test_no_more_services_than_agents_can_serve_and_report(tmp_path: Path) -> None:
    def services(count: int, check: str) -> str:
        return GOOD + "".join(
            f'[[service]]\nname = "s{n}"\nvip = "192.0.2.2"\nprotocol = "tcp"\n'
            f'port = {n + 1}\npool = "web"\n{check}'
            for n in range(count)
        )

    assert len(load(tmp_path, services(MAX_SERVICES - 2, "")).service) == MAX_SERVICES
    with pytest.raises(ConfigError, match="service: "):
        load(tmp_path, services(MAX_SERVICES - 1, ""))
    check = "[service.check]\ntype = 'tcp'\n"
    load(tmp_path, services(MAX_CHECKED_SERVICES - 1, check))
    with pytest.raises(ConfigError, match="service: must have at most 2048 with a check"):
        load(tmp_path, services(MAX_CHECKED_SERVICES, check))
