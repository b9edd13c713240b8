"""Days out of the ledger into files, each saying of how much it is; and snapshots, which say the same for ever."""

from __future__ import annotations

from hpc.export.about import COUNTS, UnfinishedDay, missing
from hpc.export.columns import SCHEMA, VERSION
from hpc.export.day import KINDS, Exported, export_day
from hpc.export.tables import safe_cell

__all__ = ["COUNTS", "KINDS", "SCHEMA", "VERSION", "Exported", "UnfinishedDay", "export_day", "missing", "safe_cell"]
