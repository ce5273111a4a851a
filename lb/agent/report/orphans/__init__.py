"""Orphans: flows whose segments arrived here and had nowhere to go."""
