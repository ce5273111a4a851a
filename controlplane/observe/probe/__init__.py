"""The controller's probe: one TCP SYN to a VIP, wrapped in GUE."""
