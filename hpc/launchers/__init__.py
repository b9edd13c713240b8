"""Who starts workers elsewhere."""
