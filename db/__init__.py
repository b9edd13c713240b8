"""The ledger: what is known about every site, day, shard and recording, in PostgreSQL."""
