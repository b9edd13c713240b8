"""The engine against its peers: the same clips through each, in one go, on the machine of whoever asks."""
