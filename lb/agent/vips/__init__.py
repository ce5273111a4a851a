"""VIPs on `lo`: added, removed, and checked for conflicts."""
