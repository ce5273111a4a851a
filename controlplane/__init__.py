"""The control plane: documents, stores, table builder, control loop. Never imports ``lb``."""
