"""Other kernels and other userlands: `python -m tests.vm`, which `make vm` runs.

Stock Debian kernels boot under QEMU, other releases' bcc runs in chroots; inside, the programs are
loaded, attached, tested row by row, and carry connections between two servers.
"""
