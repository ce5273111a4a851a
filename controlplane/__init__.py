"""The control plane: tables, builder, health, load, stores, the loop. Never imports ``lb``."""
