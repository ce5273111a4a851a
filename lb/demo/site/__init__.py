"""The machines of the demo and the programs that run on them."""
