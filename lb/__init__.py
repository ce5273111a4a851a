"""The server side of Bucket Brigade: loading the programs, the agent, metrics, the command."""

__version__ = "0.1.0"
