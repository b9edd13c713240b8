"""States: the enum, the schema's CHECK, the chart in the docs and what the ledger really allows are one thing."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from enum import StrEnum
from pathlib import Path
from types import ModuleType

import pytest

from db import days, sites, states
from db.connect import Connection, connect
from db.migrate import MIGRATIONS
from db.states import MOVES, DayState

ROOT = Path(__file__).parents[2]
COLUMNS: list[tuple[str, str, type[StrEnum]]] = [
    ("days", "state", DayState),
    ("shards", "state", states.ShardState),
    ("recordings", "state", states.RecordingState),
    ("parts", "state", states.PartState),
    ("transfers", "state", states.TransferState),
    ("jobs", "state", states.JobState),
    ("job_tasks", "ended_as", states.TaskEnd),
    ("slots", "finding", states.Finding),
    ("files", "state", states.FileState),
    ("deliveries", "state", states.DeliveryState),
]
PAIRS = [(state, target) for state in DayState for target in DayState]


@pytest.fixture(scope="module")
def states_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("states_page", ROOT / "docs" / "states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ledger(fresh_ledger: Callable[[], AbstractContextManager[str]]) -> Iterator[Connection]:
    with fresh_ledger() as dsn, connect(dsn) as connection:
        yield connection


def placed(ledger: Connection, state: DayState) -> days.Day:
    """The one day, put into this state by hand."""
    site = sites.put(ledger, "zurich", location="/audio")
    days.add(ledger, site.id, [date(2025, 1, 1)])
    ledger.execute(
        "UPDATE days SET state = %s, held_from = %s, finished = now(), summary = '{}'",
        [state, "pending" if state == DayState.HELD else None],
    )
    return days.get(ledger, "zurich", date(2025, 1, 1))


@pytest.mark.parametrize(("table", "column", "enum"), COLUMNS, ids=[table for table, *_ in COLUMNS])
def test_the_schema_s_check_and_the_enum_agree(
    ledger: Connection, table: str, column: str, enum: type[StrEnum]
) -> None:
    """Asked of the server: a later migration may have replaced what an earlier one says."""
    name = f"{table}_{column}_check"
    row = ledger.execute("SELECT pg_get_constraintdef(oid) AS says FROM pg_constraint WHERE conname = %s", [name])
    assert re.findall(r"'(\w+)'", row.fetchone()["says"]) == list(enum)  # type: ignore[index]


def test_a_day_may_be_held_in_every_state_but_held() -> None:
    schema = (MIGRATIONS / "0001_ledger.sql").read_text(encoding="utf-8")
    [values] = re.findall(r"held_from text CHECK \(held_from IN \((.*?)\)\)", schema, re.DOTALL)
    assert re.findall(r"'(\w+)'", values) == [state for state in DayState if state != DayState.HELD]


def test_the_page_is_what_its_script_writes(states_page: ModuleType) -> None:
    assert states_page.PAGE.read_text(encoding="utf-8") == states_page.page(), "run: python docs/states.py"


def test_the_chart_shows_exactly_the_legal_moves(states_page: ModuleType) -> None:
    text = states_page.PAGE.read_text(encoding="utf-8")
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE))
    assert drawn == {(state, target) for state, targets in MOVES.items() for target in targets}


def test_every_state_is_on_the_page_with_its_meaning(states_page: ModuleType) -> None:
    text = states_page.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| \w", text, re.MULTILINE) == list(DayState)
    assert [state for _, _, enum in COLUMNS for state in enum if f"`{state}`" not in text] == []


def test_every_state_but_the_finished_leads_somewhere() -> None:
    assert set(MOVES) == set(DayState)
    assert all(targets and state not in targets for state, targets in MOVES.items())


def test_the_ledger_allows_the_chart_s_moves_and_refuses_every_other(ledger: Connection) -> None:
    """A hold has doors of its own, hold and release: no plain move leads in or out of it."""
    moved = {}
    for state, target in PAIRS:
        day = placed(ledger, state)
        moved[state, target] = days.move(ledger, day.id, target, actor="test", summary={})
        assert days.by_id(ledger, day.id).state == (target if moved[state, target] else state)
    allowed = {(s, t) for s, targets in MOVES.items() for t in targets if DayState.HELD not in (s, t)}
    assert {pair for pair, done in moved.items() if done} == allowed


def test_a_hold_leads_in_from_everywhere_and_back_to_the_same_state(ledger: Connection) -> None:
    for state in MOVES[DayState.HELD]:
        day = placed(ledger, state)
        days.hold(ledger, day, actor="me", message="looking")
        assert days.by_id(ledger, day.id).state == DayState.HELD
        days.release(ledger, day, actor="me")
        assert days.by_id(ledger, day.id).state == state
