"""Stores: one contract (``contract``), several implementations, opened by their URL (``open``)."""
