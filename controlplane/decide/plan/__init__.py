"""Plan: what a change would do, by the same builder, run ahead on what is known. Pure."""
