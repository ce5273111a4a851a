"""The machine that the agent runs on: boot id, lock, sysctls, undo record, files."""
