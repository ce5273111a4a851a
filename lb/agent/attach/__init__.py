"""Programs onto the interface and off it: XDP, TC, pins, guests in the root array."""
