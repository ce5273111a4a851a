"""The look-up tables: which packet belongs to which service, and who may send GUE."""
