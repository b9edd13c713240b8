"""What several of these files start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def waiting(a_day: Any) -> list[Path]:
    """Two parts that no worker recorded: one of an open shard, and the seal of another."""
    [last] = a_day.lease(a_day.connection, a_day.open.id, 1)
    return [
        a_day.publish(last, [a_day.said(last.id, 0, b"a.mp3", "from the part")], sealed=False),
        a_day.publish(last, [a_day.said(last.id, 0, b"a.mp3", "from the part")], sealed=True),
    ]
