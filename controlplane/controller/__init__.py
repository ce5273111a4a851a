"""The control loop and its process: `lbctl control`."""
