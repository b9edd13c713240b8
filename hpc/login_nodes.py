"""Hosts that are declared login nodes: nothing long is started there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from fnmatch import fnmatch

from hpc.errors import OnLoginNode


def refuse(patterns: Iterable[str], what: str) -> None:
    """OnLoginNode, if this host's name is like one of the patterns, and we are no job of a scheduler."""
    host = socket.gethostname()
    if not os.environ.get("SLURM_JOB_ID") and any(fnmatch(host, pattern) for pattern in patterns):
        raise OnLoginNode(f"{host} is a login node (login_nodes): start {what} in a job, or on another machine.")
