"""Publish: the cluster document and each pool's table, generation by generation."""
