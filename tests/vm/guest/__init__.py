"""What runs inside: in a virtual machine, or in a chroot in namespaces of its own."""
