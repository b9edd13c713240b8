"""Synthetic speech, and a synthetic day made of it."""
