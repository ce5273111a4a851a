"""Tests of the data-plane model itself."""
