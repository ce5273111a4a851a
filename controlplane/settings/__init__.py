"""The controller's settings, `control.toml`: models, rules between keys, loading."""
