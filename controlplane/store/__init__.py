"""Stores: one contract, several implementations."""
