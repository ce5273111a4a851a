"""Route netlink: links, routes, neighbours, in bulk."""
