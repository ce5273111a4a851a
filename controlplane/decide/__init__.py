"""Decide: from what is observed to what is published next. No clock, thread, socket or store."""
