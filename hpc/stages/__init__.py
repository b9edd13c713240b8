"""The steps between a leased shard and its recorded results."""
