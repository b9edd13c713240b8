"""Where the next shard of a worker comes from."""
