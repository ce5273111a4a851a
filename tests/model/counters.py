"""The names of all counters (wire.md, sections 4 and 6)."""

from __future__ import annotations

FORWARDER_COUNTERS = frozenset(
    {
        "pass_not_ip",
        "pass_malformed",
        "pass_no_service",
        "pass_vip_icmp",
        "pass_other_host",
        "pass_local",
        "pass_to_self",
        "tx_forward",
        "tx_forward_chain",
        "tx_too_big",
        "drop_malformed",
        "drop_ext_headers",
        "drop_fragment",
        "drop_spoofed",
        "drop_no_table",
        "drop_no_bucket",
        "drop_no_dip",
        "drop_too_big",
        "drop_no_room",
        "drop_no_stage",
    }
)

REDIRECTOR_COUNTERS = frozenset(
    {
        "ok_not_gue",
        "accept_last_hop",
        "accept_echo",
        "accept_syn",
        "accept_socket",
        "accept_syncookie",
        "accept_udp_socket",
        "accept_icmp_error",
        "accept_path_probe",
        "pass_on",
        "drop_gue_malformed",
        "drop_unknown_source",
        "drop_hop_loop",
        "drop_unknown_hop",
        "drop_inner_malformed",
        "drop_inner_ext_headers",
        "drop_not_vip",
        "drop_inner_fragment",
        "drop_inner_protocol",
        "drop_no_dip",
        "drop_too_big",
        "drop_ecn",
        "drop_error",
    }
)

# The kernel's own refusals: no packet alone can cause them, so the model never says them.
KERNEL_COUNTERS = frozenset({"drop_no_room", "drop_no_stage", "drop_error"})
