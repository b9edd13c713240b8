"""The base of every error we raise on purpose; a subclass's docstring is its message, its branch has its exit code.

DayscribeError           exit 1
  TryAgain               exit 75   the same call may work later (a job scheduler requeues it)
    LedgerAway
    LeaseLost
  BadData                exit 65   this input will never work
    IllegalMove
  NeedsConfiguration     exit 78   a person must change a setting or install something
    SchemaMismatch
    NoDatabaseServer
  (the pipeline's own leaves are in hpc/errors.py)
"""

from __future__ import annotations

from typing import ClassVar


class DayscribeError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class TryAgain(DayscribeError):
    """The same command may work later."""

    exit_code = 75


class BadData(DayscribeError):
    """This input cannot be processed."""

    exit_code = 65


class NeedsConfiguration(DayscribeError):
    """A setting is missing or wrong."""

    exit_code = 78


class LedgerAway(TryAgain):
    """The ledger (PostgreSQL) cannot be reached, or is too busy to answer."""


class LeaseLost(TryAgain):
    """Another worker took this shard over."""


class IllegalMove(BadData):
    """A day cannot go from its present state to the one asked for."""


class SchemaMismatch(NeedsConfiguration):
    """The ledger's schema is not one that this program speaks."""


class NoDatabaseServer(NeedsConfiguration):
    """No PostgreSQL server programs were found."""
