"""The ways in which people are told: each a module, none knows another."""
