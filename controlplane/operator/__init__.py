"""Drains and overviews for operators of a running cluster."""
