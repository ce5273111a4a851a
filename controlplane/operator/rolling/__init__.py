"""`lbctl rolling`: one command on every server, each drained first, and back before the next."""
