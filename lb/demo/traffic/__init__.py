"""The demo's clients: connections and flows, and what counts as broken."""
