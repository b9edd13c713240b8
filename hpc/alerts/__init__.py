"""Alerts and the digest: what is amiss, in which words, and that it is said once; hpc/channels carries the words."""
