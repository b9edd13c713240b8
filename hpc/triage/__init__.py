"""Quality triage: which transcripts a person should look at first, and why. Flags with their numbers; nothing is
dropped, and no text or state is changed."""

from __future__ import annotations

from hpc.triage.enrich import enrich, enrich_open, key_of_rules
from hpc.triage.evidence import Captions, Evidence, Flag, from_row, from_transcript
from hpc.triage.judge import judge
from hpc.triage.rules import FLAGS, RULES, TABLE
from hpc.triage.shard import judge_day, judge_lately, judge_settled, judge_shard

__all__ = [
    "FLAGS", "RULES", "TABLE", "Captions", "Evidence", "Flag", "enrich", "enrich_open", "from_row", "from_transcript",
    "judge", "judge_day", "judge_lately", "judge_settled", "judge_shard", "key_of_rules",
]  # fmt: skip
