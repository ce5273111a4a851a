"""Every form of VIP, port, check and hash mode survives documents, settings and spelling."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.documents.check import decode_cluster, encode_cluster
from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import (
    TCP,
    UDP,
    Address,
    Check,
    CheckType,
    Cluster,
    Pool,
    Server,
    Service,
    Vip,
    first_address,
    vip_text,
)
from controlplane.domain.vips import MAX_IPV6_LENGTHS, BadVip, Hosts, check_vip, parse_vip
from controlplane.settings.models import ServiceConfig

POOLS = (Pool("flows", 256, key_id="k1"), Pool("clients", 256, hash_mode="client", key_id="k2"))
CLUSTER = Cluster(
    generation=1,
    servers=(Server("s1", IPv4Address("10.0.0.1"), 1),),
    pools=POOLS,
    probers=frozenset({IPv4Address("10.0.0.9")}),
)
HOSTS = Hosts([IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9")])
ports = st.integers(1, 65535)


@st.composite
def networks(draw: st.DrawFn) -> Vip:
    """Any network at all, of both IP versions; hosts are as likely as prefixes."""
    bits = draw(st.sampled_from([32, 128]))
    number = draw(st.integers(0, 2**bits - 1))
    address: Address = IPv4Address(number) if bits == 32 else IPv6Address(number)
    length = draw(st.just(bits) | st.integers(0, bits))
    return ip_network((address, length), strict=False)


def is_vip(vip: Vip) -> bool:
    try:
        check_vip(vip)
    except BadVip:
        return False
    return HOSTS.covered_by(vip) is None


vips = networks().filter(is_vip)


@st.composite
def services(draw: st.DrawFn) -> Service:
    vip, port = draw(vips), draw(st.none() | ports)
    protocol = draw(st.sampled_from([TCP, UDP]))
    last = int(vip.broadcast_address) - int(vip.network_address)
    asked = draw(st.none() | st.integers(0, last).map(lambda n: vip.network_address + n))
    kind = draw(st.sampled_from(CheckType))
    check_port = draw(ports if port is None and kind is not CheckType.NONE else st.none() | ports)
    return Service(
        name="s",
        vip=vip,
        protocol=protocol,
        port=port,
        pool=draw(st.sampled_from(POOLS)).name,
        stateless=protocol == UDP and draw(st.booleans()),
        check=Check(kind, port=check_port, address=asked),
    )


@given(
    st.lists(services(), max_size=MAX_IPV6_LENGTHS, unique_by=lambda s: (s.vip, s.protocol, s.port))
)
def test_services_survive_the_journey(found: list[Service]) -> None:
    named = tuple(replace(service, name=f"s{n}") for n, service in enumerate(found))
    cluster = replace(CLUSTER, services=named)
    assert decode_cluster(encode_cluster(cluster)) == cluster


@given(services())
def test_settings_make_the_service_that_documents_carry(service: Service) -> None:
    check = {"type": service.check.type.value}
    for key in ("port", "address"):
        value = getattr(service.check, key)
        if value is not None:
            check[key] = value if key == "port" else str(value)
    written = {
        "name": service.name,
        "vip": vip_text(service.vip),
        "protocol": "tcp" if service.protocol == TCP else "udp",
        "port": "any" if service.port is None else service.port,
        "pool": service.pool,
        "stateless": service.stateless,
        "check": check,
    }
    assert ServiceConfig.model_validate(written).domain() == service


@given(networks())
def test_a_network_is_a_vip_everywhere_or_nowhere(vip: Vip) -> None:
    """What is refused in settings is refused in documents, when written and when read."""
    service = Service("s", vip, TCP, 80, "flows")
    cluster = replace(CLUSTER, services=(service,))
    try:
        assert parse_vip(vip_text(vip)) == vip
        assert parse_vip(str(vip)) == vip
    except BadVip:
        with pytest.raises(DocumentError):
            encode_cluster(cluster)
        return
    if HOSTS.covered_by(vip) is None:
        assert decode_cluster(encode_cluster(cluster)) == cluster
        assert first_address(vip) in vip
    else:
        with pytest.raises(DocumentError, match="vip_covers"):
            encode_cluster(cluster)


@given(st.text(alphabet="0123456789abcdef.:/ %", max_size=45))
def test_whatever_the_text_is_it_is_a_vip_or_refused_in_one_line(text: str) -> None:
    try:
        vip = parse_vip(text)
    except BadVip as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017
        assert len(str(refusal)) < 250  # noqa: PT017
        return
    assert parse_vip(vip_text(vip)) == vip
