"""Writes docs/reference/states.md from db/states.py: `python docs/states.py`; a test holds the page to it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from db import states
from db.states import MOVES, DayState

PAGE = Path(__file__).parent / "reference" / "states.md"

MEANINGS = {
    DayState.PENDING: "known by its date; nothing of it has been listed",
    DayState.TRANSFERRING: "its files are on their way here",
    DayState.TRANSFER_FAILED: "a file did not come, and is named; a retry leads on, or a person goes on without it",
    DayState.READY_TO_PROCESS: "listed, its shards can be claimed",
    DayState.PROCESSING: "a worker has claimed a shard of it",
    DayState.PROCESSING_FAILED: "its work was given up; a retry leads on",
    DayState.COMPLETED: "no shard is open, and no recording or shard is an exception; or its source has nothing for it",
    DayState.COMPLETED_WITH_ERRORS: "no shard is open; some recordings are quarantined, or some shards failed",
    DayState.HELD: "a person's pause: nothing of it is claimed; what is in hand is finished",
}
OTHERS: list[tuple[type[StrEnum], str, str]] = [
    (states.ShardState, "Shards", "`ready → leased → done | failed`; a lease that ends early leads back to `ready`."),
    (states.RecordingState, "Recordings", "`provisional` until the shard is sealed; then what became of it."),
    (states.PartState, "Parts", "`provisional` until the shard is sealed; `discarded` when its archive is damaged."),
    (
        states.TransferState,
        "Transfers",
        "`intent` is written before anything is asked of the outside. `succeeded` is the mover's word: each file is "
        "looked at all the same. `unknown`: the mover knows the task no longer, and what is here tells.",
    ),
    (
        states.JobState,
        "Jobs",
        "`unknown` is no failure: the scheduler did not answer, or knows the job no longer. "
        "[Three witnesses](../explanation/three-witnesses.md#every-state-of-an-order) says what a tick does in each.",
    ),
    (
        states.TaskEnd,
        "Starts of tasks",
        "How one start of a job's task ended; SLURM may start a task again. "
        "[Three witnesses](../explanation/three-witnesses.md#how-a-start-of-a-task-can-end) says what each means.",
    ),
    (
        states.FileState,
        "Files of a listing",
        "What has become of each file that a day's source lists: `wrong` arrived otherwise than it was listed, "
        "`waived` a person goes on without it, `gone` the source lists it no more, `removed` it was worked and its "
        "bytes let go: a plan that reads it has it fetched again.",
    ),
    (
        states.DeliveryState,
        "Deliveries",
        "`wanted` waits for a job; `sending` was begun, and the same command takes it on; `verified` is at its target, "
        "whole and with its manifest.",
    ),
    (states.Finding, "Files of a slot", "What is known of each file that a slot should have."),
]


def page() -> str:
    """The whole page."""
    return "\n".join([*_days(), *_others()])


def chart() -> list[str]:
    """The moves of a day in mermaid's words. A hold may begin anywhere and ends where it began: one line says so."""
    moves = [
        f"    {state} --> {target}"
        for state in DayState
        for target in sorted(MOVES[state])
        if DayState.HELD not in (state, target)
    ]
    holds = [f"    {state} --> held" for state in DayState if DayState.HELD in MOVES[state]]
    back = [f"    held --> {target}" for target in sorted(MOVES[DayState.HELD])]
    return ["stateDiagram-v2", "    [*] --> pending", *moves, *holds, *back]


def _days() -> list[str]:
    return [
        "# States",
        "",
        "<!-- Written by docs/states.py from db/states.py; change those. -->",
        "",
        "## Days",
        "",
        "A move is a compare-and-set: a move that this chart does not show is refused.",
        "",
        "```mermaid",
        *chart(),
        "```",
        "",
        "| state | meaning |",
        "| --- | --- |",
        *(f"| `{state}` | {MEANINGS[state]} |" for state in DayState),
        "",
        "A held day remembers the state it was held in, and its release goes back to exactly that one.",
        "",
    ]


def _others() -> list[str]:
    lines = []
    for enum, title, about in OTHERS:
        lines += [f"## {title}", "", about, "", ", ".join(f"`{state}`" for state in enum), ""]
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
