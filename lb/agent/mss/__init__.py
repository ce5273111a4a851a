"""Keeps the MSS of VIP connections low enough for the encapsulation, by a routing table."""
