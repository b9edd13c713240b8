"""Small damages to plans and what runs them, and the tests that must notice; tests/faults/test_mutants.py."""

from __future__ import annotations

REDO, TICK = "tests/integration/test_reprocess.py", "tests/integration/tick/test_tick_redo.py"
STAGES, ALIGN = "tests/integration/test_stages.py", "tests/integration/test_stage_align.py"
SQL = "db/queries/redo.sql"
SETTLE = "-- name: settle\nUPDATE plan_shards SET state = 'done', owner = NULL, lease_until = NULL, changed = now()\n"
ROOM = "            room = min(room, self._world.wanted.plan_tasks - self._of_plans)\n"
SEEN = f"{REDO}::test_readers_see_the_old_until_all_that_is_planned_of_an_archive_is_there"
EXACTLY = f"{REDO}::test_exactly_what_was_shown_is_what_runs_though_the_ledger_changed_meanwhile"
OVER = f"{REDO}::test_a_worker_whose_lease_was_taken_over_settles_nothing_and_its_results_are_welcome"

# What is damaged → ((file, before, after), …), (tests, …)
MUTANTS: dict[str, tuple[tuple[tuple[str, str, str], ...], tuple[str, ...]]] = {
    "aligning undoes a newer text": (
        ((SQL, "(m.outcome = 'remade' AND p.stage <> 'align')", "m.outcome = 'remade'"),),
        (f"{ALIGN}::test_a_text_of_a_newer_version_is_never_undone",),
    ),
    "whoever is asked for times may change the text": (
        (("hpc/stages/align.py", "    if audio.said is None or isinstance(outcome, Failure):", "    if True:"),),
        (f"{ALIGN}::test_an_aligner_that_changes_a_text_or_its_language_is_refused_whoever_it_is",),
    ),
    "a job that aligns is told nothing of its texts": (
        (("hpc/tick/submit.py", "            if one.said is not None:\n", "            if False:\n"),),
        (f"{TICK}::test_a_job_that_aligns_is_told_whose_texts_and_what_was_said_where_it_cannot_ask",),
    ),
    "an aligned version is of another run's text": (
        (("db/queries/plans.sql", "id, coalesce(u.receipt #>> '{text,key}', encode(t.run_key, 'hex')) AS key",
          "id, encode(t.run_key, 'hex') AS key"),),
        (f"{ALIGN}::test_texts_of_several_runs_are_named_and_one_is_chosen",),
    ),
    "a plan judges what was not shown": (
        (("hpc/triage/enrich.py", "look(connection, turn, only=leased.wanted)", "look(connection, turn)"),),
        (f"{STAGES}::test_exactly_what_was_shown_is_judged_and_a_shard_of_which_it_is_a_part_keeps_its_mark",),
    ),
    "a part of a shard judged passes for all of it": (
        (("hpc/triage/enrich.py", "rules = RULES if told.whole else before", "rules = RULES"),),
        (f"{STAGES}::test_exactly_what_was_shown_is_judged_and_a_shard_of_which_it_is_a_part_keeps_its_mark",),
    ),
    "a plan judges under a lease that is lost": (
        (("db/rejudge.py", '        if held is None or (held["state"], held["epoch"]) != ("leased", leased.epoch):\n',
          "        if held is None:\n"),
         (SQL, f"{SETTLE}WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND",
          f"{SETTLE}WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND")),
        (f"{STAGES}::test_a_judge_whose_lease_was_taken_over_writes_nothing",),
    ),
    "a GPU is asked for what needs none": (
        ((SQL, "p.state = 'open' AND p.stage <> 'enrich' AND", "p.state = 'open' AND"),),
        (f"{STAGES}::test_a_tick_judges_open_plans_for_as_long_as_it_may_and_orders_no_job_for_them",),
    ),
    "a plan's result is current as soon as it is recorded": (
        (("db/redo.py", '    if left is None or left["recordings"] or held is None:\n', "    if held is None:\n"),),
        (SEEN,),
    ),
    "a plan settles without its epoch": (
        (
            ("db/redo.py", '        ours = held["state"] == "leased" and held["epoch"] == part.epoch\n',
             '        ours = held["state"] == "leased"\n'),
            (
                SQL,
                f"{SETTLE}WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND",
                f"{SETTLE}WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND",
            ),
        ),
        (OVER,),
    ),
    "what was not shown is made too": (
        (
            (
                SQL,
                "    FROM recordings r JOIN plan_recordings q ON q.plan_id = %(plan_id)s AND q.recording_id = r.id"
                " AND q.outcome IS NULL\n",
                "    FROM recordings r\n",
            ),
        ),
        (EXACTLY,),
    ),
    "what is known under the key is made again": (
        ((SQL, "AND NOT p.forced AND t.recording_id = q.recording_id AND t.run_key = p.run_key;", "AND false;"),),
        (EXACTLY,),
    ),
    "a plan chooses what has been made under its key": (
        (("db/plans.py", "known = 0 if wish.forced else", "known = 0 if True else"),),
        (f"{REDO}::test_what_has_been_made_under_this_key_is_not_made_again_unless_forced",),
    ),
    "other bytes are taken for the same recording": (
        (("db/redo.py", '        if known.get(result["ordinal"]) != result["sha256"]:\n', "        if False:\n"),),
        (f"{REDO}::test_recordings_with_other_bytes_than_before_are_refused_whole",),
    ),
    "a part of another key is taken": (
        (("db/redo.py", '        if held["run_key"] != part.run_key:\n', "        if False:\n"),),
        (f"{TICK}::test_a_part_made_under_another_key_than_its_plan_is_refused",),
    ),
    "a trial is what readers see": (
        (("db/redo.py", '    if not held["keep_current"]:\n', "    if True:\n"),),
        (f"{REDO}::test_a_trial_is_kept_beside_what_readers_see_until_it_is_adopted",),
    ),
    "a finished day's summary stays as it was": (
        (("db/redo.py", "        if moved:\n            days.count_again(connection, day_id)\n", ""),),
        (f"{REDO}::test_a_finished_days_summary_follows_what_readers_see_and_its_state_does_not",),
    ),
    "a plan that is taken up again moves everything back": (
        ((SQL, " AND s.shard_id = q.shard_id AND NOT q.moved\n", " AND s.shard_id = q.shard_id\n"),),
        (f"{REDO}::test_what_failed_of_a_finished_plan_is_taken_up_again_and_nothing_else",),
    ),
    "what is there and not seen stays unseen": (
        ((SQL, "        AND q.outcome IN ('remade', 'known')\n", "        AND q.outcome = 'remade'\n"),),
        (f"{REDO}::test_what_a_plan_that_was_given_up_has_made_is_seen_with_the_next_and_not_made_again",),
    ),
    "a trial at work may be adopted": (
        (("db/redo.py", "        if now.state not in (plans.DONE, plans.CANCELLED):\n", "        if False:\n"),),
        (f"{REDO}::test_a_trial_is_kept_beside_what_readers_see_until_it_is_adopted",),
    ),
    "staged audio that a plan needs is let go": (
        (
            (
                "db/queries/transfers.sql",
                "AND k.state IN ('ready', 'leased') AND p.state IN ('open', 'paused')))\nRETURNING",
                "AND false))\nRETURNING",
            ),
        ),
        ("tests/integration/transfers/test_tidying.py::test_staged_audio_stays_while_a_plan_has_it_to_make_again",),
    ),
    "plans come before days": (
        (("hpc/scheduler.py", "    orders.for_days()\n    orders.for_plans()\n",
          "    orders.for_plans()\n    orders.for_days()\n"),),
        (f"{TICK}::test_days_that_were_never_transcribed_come_first_and_plans_have_a_cap",),
    ),
    "plans take all the room there is": (
        (("hpc/tick/submit.py", f"{ROOM}        if room < 1:\n            if",
          "            pass\n        if room < 1:\n            if"),),
        (f"{TICK}::test_days_that_were_never_transcribed_come_first_and_plans_have_a_cap",),
    ),
    "a paused plan keeps its place in the queue": (
        (("hpc/scheduler.py", "    orders.withdraw_of_plans()\n", ""),),
        (f"{TICK}::test_a_paused_plan_gives_its_waiting_tasks_back_and_gets_them_again",),
    ),
}  # fmt: skip
