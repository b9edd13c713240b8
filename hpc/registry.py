"""Adapter names to import paths; other packages add theirs by entry points in the group dayscribe.<port>."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from hpc.errors import UnknownName

BUILT_IN = {
    "engines": {
        "whisperx": "hpc.engines.whisperx.batched:BatchedEngine",
        "whisperx_per_file": "hpc.engines.whisperx.per_file:PerFileEngine",
        "echo": "hpc.engines.echo:EchoEngine",
    },
    "aligners": {  # by the engine's name
        "whisperx": "hpc.engines.whisperx.realigning:Realigner",
        "whisperx_per_file": "hpc.engines.whisperx.realigning:Realigner",
        "echo": "hpc.engines.echo:EchoEngine",
    },
    "sources": {"local": "hpc.sources.local:LocalSource", "globus": "hpc.sources.globus:GlobusSource"},
}


def target(port: str, name: str) -> str:
    """The import path "module:attribute" of the adapter `name` of `port`; nothing is imported."""
    if path := BUILT_IN[port].get(name):
        return path
    added = {entry.name: entry.value for entry in entry_points(group=f"dayscribe.{port}")}
    if name in added:
        return added[name]
    known = ", ".join(sorted({*BUILT_IN[port], *added}))
    raise UnknownName(f"no {port.removesuffix('s')} is called {name!r}; known: {known}")


def load(port: str, name: str) -> Any:
    """The adapter's class."""
    module, _, attribute = target(port, name).partition(":")
    return getattr(import_module(module), attribute)
