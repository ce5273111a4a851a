"""The documents that controllers publish and agents read, as bytes (docs/documents.md)."""
