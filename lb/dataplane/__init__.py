"""The programs and maps in the kernel: loading, filling, reading. The agent attaches them."""
