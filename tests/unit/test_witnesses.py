"""How a job ended: three witnesses, and success only when all of them say so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.jobs import TaskStart
from db.states import JobState, TaskEnd
from hpc.job_folder import Record
from hpc.jobs import ACTIVE, Look, Seen
from hpc.tick.witnesses import Verdict, judge, sight, starts

TOKEN, NAME = "0123456789ab", "ds-2025-01-01-0123456789ab"


def seen(state: str, task: int | None = 0, **more: object) -> Seen:
    return Seen("12", str(more.pop("name", NAME)), state, task=task, **more)  # type: ignore[arg-type]


def words(*states: str) -> list[Seen]:
    return [seen(state, task) for task, state in enumerate(states)]


def began(task: int = 0, restart: int = 0) -> Record:
    return Record(task, restart, "n1", 100.0)


def ended(task: int = 0, ended_as: str = "done", code: int = 0, reason: str = "", *, restart: int = 0) -> Record:
    return Record(
        task, restart, "n1", 100.0, ended=160.0, ended_as=ended_as, exit_code=code, reason=reason, facts={"shards": 2}
    )


def verdict(lines: Sequence[Seen], records: Sequence[Record], tasks: int = 2, shards: int | None = 0) -> Verdict:
    return judge(lines, records, tasks=tasks, open_shards=shards, fruitful=True)


BOTH = [ended(0), ended(1)]
DONE = words("COMPLETED", "COMPLETED")
STATES = ["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "", "NEW_WORD"]


@pytest.mark.parametrize(
    ("lines", "records", "shards", "state", "because"),
    [
        (DONE, BOTH, 0, "succeeded", "Scheduler: 2 COMPLETED; exit records: 2 done; ledger: 0 open shards"),
        ([], BOTH, 0, "succeeded", "Scheduler: does not know it any more; exit records: 2 done"),
        (DONE, BOTH, None, "succeeded", "ledger: no day"),
        (DONE, [ended(0), ended(1, "superseded")], 0, "succeeded", "1 done, 1 superseded"),
        (DONE, [ended(0, "crash", 1, "it fell"), ended(0, restart=1), ended(1)], 0, "succeeded", "2 done"),
        (DONE, [ended(0)], 0, "failed", "exit records: 1 done, 1 never began"),
        (DONE, [], 0, "failed", "not all that it came to is known. Scheduler: 2 COMPLETED"),
        (DONE, [ended(0), began(1)], 0, "failed", "not all that it came to is known"),
        (DONE, [*BOTH, began(1, restart=1)], 0, "failed", "1 done, 1 no exit record"),
        (DONE, [ended(0), ended(7)], 0, "failed", "1 never began"),
        ([], [ended(0)], 0, "failed", "exit records: 1 done, 1 never began"),
        ([], [], 0, "failed", "Scheduler: does not know it any more; exit records: 2 never began"),
        (words("COMPLETED", "FAILED"), BOTH, 0, "failed", "1 FAILED. "),
        (words("COMPLETED", "TIMEOUT"), [ended(0), began(1)], 0, "failed", "1 TIMEOUT. "),
        (words("OUT_OF_MEMORY", "OUT_OF_MEMORY"), [began(0), began(1)], 4, "failed", "2 OUT_OF_MEMORY. "),
        (words("NODE_FAIL", "COMPLETED"), [began(0), ended(1)], 1, "failed", "1 NODE_FAIL. "),
        (words("PREEMPTED", "COMPLETED"), [ended(0, "stopped", 75), ended(1)], 1, "failed", "1 PREEMPTED. "),
        (words("BOOT_FAIL", "DEADLINE"), [], 0, "failed", "1 BOOT_FAIL, 1 DEADLINE. "),
        (DONE, BOTH, 3, "failed", "3 shards of its day are still open. "),
        (words("FAILED", "FAILED"), [ended(0, "data", 65, "no disk."), ended(1, "data", 65, "no disk.")], 1, "failed",
         "no disk (2 tasks). "),
        (words("FAILED", "COMPLETED"), [ended(0, "crash", 1, "KeyError: 'x'"), ended(1)], 0, "failed",
         "KeyError: 'x'. "),
        (DONE, [ended(0), ended(1, "stopped", 75, "its time is nearly up")], 0, "failed", "its time is nearly up. "),
        (words("COMPLETED", "CANCELLED"), BOTH, 0, "cancelled", "1 of its tasks were cancelled by somebody. "),
        ([seen("CANCELLED", None, tasks=4)], [], 9, "cancelled", "4 of its tasks were cancelled by somebody. "),
        (words("FAILED", "CANCELLED"), [ended(0, "crash", 1, "it fell")], 0, "cancelled", "1 of its tasks"),
    ],
)  # fmt: skip
def test_the_three_witnesses_give_one_verdict_and_its_sentence_names_the_reason(
    lines: list[Seen], records: list[Record], shards: int | None, state: str, because: str
) -> None:
    said = verdict(lines, records, shards=shards)

    assert said.state == state
    assert because in said.message


@pytest.mark.parametrize("word", [*STATES, *sorted(ACTIVE)])
def test_one_task_that_the_scheduler_does_not_call_completed_is_enough_for_no_success(word: str) -> None:
    assert (verdict(words("COMPLETED", word), BOTH).state == "succeeded") == (word == "COMPLETED")


@pytest.mark.parametrize("end", [*TaskEnd, "new word", None])
def test_one_task_that_was_not_done_is_enough_for_no_success(end: str | None) -> None:
    last = ended(1, end) if end else began(1)

    assert (verdict(DONE, [ended(0), last]).state == "succeeded") == (end in ("done", "superseded"))


def test_a_verdict_keeps_what_each_witness_said() -> None:
    said = verdict(words("COMPLETED", "TIMEOUT"), [ended(0)], tasks=3, shards=5)

    assert said.witnesses == {
        "scheduler": {"COMPLETED": 1, "TIMEOUT": 1},
        "exit_records": {"done": 1, "never began": 2},
        "ledger": {"open_shards": 5, "fruitful": True},
    }


ENDS = st.sampled_from([*12 * ["done"], None, *[end.value for end in TaskEnd], "new word"])


@given(
    tasks=st.integers(1, 4),
    states=st.lists(st.sampled_from([*6 * ["COMPLETED"], *STATES]), max_size=4),
    told=st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 2)), ENDS, max_size=6),
    shards=st.none() | st.just(0) | st.integers(0, 3),
)
def test_success_is_said_by_every_witness_or_it_is_none(
    tasks: int, states: list[str], told: dict[tuple[int, int], str | None], shards: int | None
) -> None:
    records = [
        ended(task, end, restart=restart) if end else began(task, restart) for (task, restart), end in told.items()
    ]
    latest = {task: told[task, max(r for t, r in told if t == task)] for task, _ in told}
    all_say_so = (
        all(state == "COMPLETED" for state in states)
        and set(range(tasks)) <= set(latest)
        and set(latest.values()) <= {"done", "superseded"}
        and not shards
    )

    assert (verdict(words(*states), records, tasks, shards).state == JobState.SUCCEEDED) == all_say_so


def look(queue: Sequence[Seen], accounting: Sequence[Seen] | None = None) -> Look:
    return Look(tuple(queue), None if accounting is None else tuple(accounting))


def test_an_array_that_waits_is_one_line_for_many_tasks() -> None:
    found = sight(look([seen("PENDING", None, tasks=5, reason="Priority")]), token=TOKEN, scheduler_id="12")

    assert (found.known, found.active, found.running, found.message) == (True, True, False, None)
    assert (found.says, found.waiting, found.outstanding) == ("5 PENDING (Priority)", 5, 5)


def test_a_job_that_runs_in_part_counts_what_runs_and_what_waits() -> None:
    queue = [seen("PENDING", None, tasks=5, reason="JobArrayTaskLimit"), seen("RUNNING", 0), seen("COMPLETED", 1)]

    found = sight(look(queue), token=TOKEN, scheduler_id="12")

    assert (found.active, found.running) == (True, True)
    assert (found.says, found.waiting, found.outstanding) == (
        "1 COMPLETED, 5 PENDING (JobArrayTaskLimit), 1 RUNNING", 5, 6,
    )  # fmt: skip


def test_while_anything_is_in_the_queue_the_queues_word_counts() -> None:
    found = sight(look([seen("RUNNING", 0)], [seen("FAILED", 0), seen("FAILED", 1)]), token=TOKEN, scheduler_id="12")

    assert (found.says, found.running) == ("1 RUNNING", True)


def test_what_the_queue_has_forgotten_of_an_ended_job_accounting_completes() -> None:
    """The last task is not yet with accounting, the first ones are no longer with the controller."""
    queue = [seen("COMPLETED", 1), seen("FAILED", 2)]
    accounting = [seen("COMPLETED", 0, exit_code=0), seen("COMPLETED", 1, exit_code=0)]

    found = sight(look(queue, accounting), token=TOKEN, scheduler_id="12")

    assert (found.known, found.active, found.says) == (True, False, "2 COMPLETED, 1 FAILED")
    assert {(one.task, one.exit_code) for one in found.tasks} == {(0, 0), (1, 0), (2, None)}


def test_that_a_job_lives_only_the_queue_can_say() -> None:
    """Accounting goes on saying RUNNING of a job whose end it was never told: such a job has vanished."""
    for accounting in ([seen("RUNNING")], [seen("RUNNING", 0), seen("COMPLETED", 1)]):
        found = sight(look([], accounting), token=TOKEN, scheduler_id="12")
        assert (found.active, found.known) == (False, False)


def test_a_job_that_somebody_renamed_is_found_by_its_id() -> None:
    found = sight(look([seen("RUNNING", name="my-job")]), token=TOKEN, scheduler_id="12")

    assert (found.known, found.running) == (True, True)


def test_a_job_whose_answer_was_lost_is_found_by_the_token_in_its_name() -> None:
    found = sight(look([seen("PENDING", None, tasks=3)]), token=TOKEN, scheduler_id=None)

    assert (found.known, [one.job for one in found.tasks], found.waiting) == (True, ["12"], 3)


def test_a_job_with_another_token_and_another_id_is_not_ours() -> None:
    other = seen("RUNNING", name="ds-2025-01-01-ba9876543210")

    found = sight(look([other], [other]), token=TOKEN, scheduler_id="13")

    assert (found.known, found.active, found.says) == (False, False, "")


@pytest.mark.parametrize(
    "reason", ["DependencyNeverSatisfied", "JobHeldUser", "JobHeldAdmin", "job_requeued_in_held_state"]
)
def test_a_job_that_will_never_start_by_itself_is_told(reason: str) -> None:
    found = sight(look([seen("PENDING", None, tasks=2, reason=reason)]), token=TOKEN, scheduler_id="12")

    assert found.message == f"it will not start by itself: {reason}"


@pytest.mark.parametrize("reason", ["Priority", "Resources", "QOSMaxJobsPerUserLimit", "BeginTime", "None", ""])
def test_a_job_that_only_waits_its_turn_needs_no_word(reason: str) -> None:
    assert sight(look([seen("PENDING", None, reason=reason)]), token=TOKEN, scheduler_id="12").message is None


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_no_state_on_the_way_is_taken_for_an_end(state: str) -> None:
    found = sight(look([seen(state)]), token=TOKEN, scheduler_id="12")

    assert (found.active, found.outstanding) == (True, 1)
    assert [start.ended_as for start in starts(found.tasks, [began()])] == [None]


@pytest.mark.parametrize(
    ("line", "record", "ended_as"),
    [
        (seen("NODE_FAIL"), began(), "infrastructure"),
        (seen("BOOT_FAIL"), began(), "infrastructure"),
        (seen("FAILED", exit_code=255), began(), "infrastructure"),
        (seen("FAILED", exit_code=0, reason="JobLaunchFailure"), began(), "infrastructure"),
        (seen("FAILED", exit_code=1), began(), "crash"),
        (seen("OUT_OF_MEMORY", exit_code=0), began(), "crash"),
        (seen("TIMEOUT", exit_code=0), began(), "crash"),
        (seen("COMPLETED", exit_code=0), began(), "crash"),
        (seen("CANCELLED"), began(), "cancelled"),
        (seen("RUNNING"), began(), None),
        (None, began(), None),
        (seen("NODE_FAIL"), ended(), "done"),
        (seen("CANCELLED"), ended(0, "stopped", 75), "stopped"),
        (seen("FAILED"), ended(0, "no word of ours"), "crash"),
        (None, ended(0, "try_again", 75), "try_again"),
    ],
)
def test_a_start_ended_as_its_own_record_says_and_else_as_the_scheduler_does(
    line: Seen | None, record: Record, ended_as: str | None
) -> None:
    assert [start.ended_as for start in starts([line] if line else [], [record])] == [ended_as]


def test_each_start_of_a_task_is_its_own_and_the_schedulers_word_is_for_the_latest() -> None:
    found = starts([seen("NODE_FAIL", 3, node="n2")], [ended(3, "stopped", 75, "moved"), began(3, restart=1)])

    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)

    moved = {"shards": 2, "reason": "moved"}
    assert found == [
        TaskStart(3, 0, "n1", None, 75, TaskEnd.STOPPED, moved, at(100), at(160)),
        TaskStart(3, 1, "n1", "NODE_FAIL", None, TaskEnd.INFRASTRUCTURE, None, at(100), None),
    ]


def test_a_task_that_never_said_a_word_is_a_start_if_a_node_had_it() -> None:
    lines = [
        seen("NODE_FAIL", 0, node="n1"),
        seen("FAILED", 1, node="n2", exit_code=255),
        seen("CANCELLED", 2),
        seen("RUNNING", 3, node="n3"),
        seen("PENDING", None, tasks=4),
    ]

    found = starts(lines, [])

    assert [(one.task, one.restart, one.node, one.exit_code, one.ended_as) for one in found] == [
        (0, 0, "n1", None, "infrastructure"),
        (1, 0, "n2", 255, "infrastructure"),
    ]
