"""The clients of the demo: connections and flows, and when one counts as broken."""
