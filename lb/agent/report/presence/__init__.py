"""Where this server's connections are: counted by pool and bucket, and compared with its tables."""
