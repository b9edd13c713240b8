"""Small damages to what moves days here, and the tests that must notice; tests/faults/test_mutants.py tries them."""

from __future__ import annotations

FOLDER = "tests/integration/transfers"
PORTER, TROUBLE, TIDYING, DOUBT, AGAIN = (
    f"{FOLDER}/test_{name}.py" for name in ("porter", "porter_trouble", "tidying", "porter_doubt", "again")
)
LOGIN, SLOTS, LAYOUT = f"{FOLDER}/test_login.py", "tests/unit/test_slots.py", "tests/unit/test_layout.py"

OF_DAY = "AND (%(day_id)s::bigint IS NULL OR s.day_id = %(day_id)s)"
FRESH = f"s.state = 'ready' AND s.ready_at <= now()\n        {OF_DAY}\n        AND"
LAPSE = "FROM plan_shards s WHERE s.plan_id = %(plan_id)s AND s.state IN ('ready', 'leased')\n    AND"

# What is damaged → ((file, before, after), …), (tests, …)
MUTANTS: dict[str, tuple[tuple[tuple[str, str, str], ...], tuple[str, ...]]] = {
    "a mover's success is believed": (
        (("hpc/stages/arrival.py", "        if size is not None and found.st_size != size:\n", "        if False:\n"),),
        (f"{PORTER}::test_what_arrived_otherwise_than_it_was_listed_is_named",),
    ),
    "a checksum is told and not compared": (
        (("hpc/stages/arrival.py", "    if value != checksum.value:\n", "    if False:\n"),),
        (f"{PORTER}::test_one_flipped_bit_is_found_where_the_mover_tells_checksums",),
    ),
    "a link counts as a file that arrived": (
        (("hpc/stages/arrival.py", "        if not stat.S_ISREG(found.st_mode):\n", "        if False:\n"),),
        (f"{PORTER}::test_what_arrived_otherwise_than_it_was_listed_is_named",),
    ),
    "a move is submitted under an id that was never stored": (
        (("hpc/tick/porter.py", "Move(transfer.submission, ", "Move(mover.new_submission(), "),),
        (f"{TROUBLE}::test_a_lost_answer_makes_no_second_task",),
    ),
    "a day may have two transfers of a kind at once": (
        (("db/migrations/0003_transfers.sql", "UNIQUE INDEX transfers_one_live", "INDEX transfers_one_live"),),
        (f"{PORTER}::test_what_is_listed_while_a_transfer_is_under_way_comes_with_the_next_one",),
    ),
    "audio that is worked is fetched again": (
        (("db/queries/listings.sql", "    AND (s.id IS NULL OR s.state <> 'done') ORDER", "    ORDER"),),
        (f"{DOUBT}::test_what_a_purge_took_before_it_was_worked_comes_again_and_nothing_else",),
    ),
    "a file system that is not mounted has lost everything": (
        (("hpc/stages/arrival.py", "while seen_from_here(staged) and (page", "while (page"),),
        (f"{DOUBT}::test_what_this_host_does_not_show_is_not_lost",),
    ),
    "a day with a gap is ready": (
        (("hpc/tick/porter.py", 'and standing["arrived"] == standing["listed"]', 'and standing["arrived"] > 0'),),
        (f"{PORTER}::test_143_of_144_archives_leave_the_day_incomplete_and_name_the_slot_and_the_file",),
    ),
    "companions gate a day": (
        (
            (
                "db/queries/transfers.sql",
                "FROM files WHERE day_id = %(day_id)s AND kind IN ('archive', 'loose')\n    AND state <> 'waived'",
                "FROM files WHERE day_id = %(day_id)s\n    AND state <> 'waived'",
            ),
        ),
        (f"{PORTER}::test_archives_gate_the_day_and_companions_join_it_whenever_they_come",),
    ),
    "an empty day is believed at once": (
        (("hpc/tick/porter.py", "(empty_for or 0.0) < wait.total_seconds()", "False"),),
        (f"{PORTER}::test_an_empty_day_is_believed_the_second_time_hours_later",),
    ),
    "half a listing is one": (
        (
            (
                "hpc/stages/listing.py",
                "        for one in files:\n            when",
                "        from contextlib import suppress\n        from hpc.errors import NoAnswer\n"
                "        rest = iter(files)\n"
                "        def told():\n            with suppress(NoAnswer):\n                yield from rest\n"
                "        for one in told():\n            when",
            ),
        ),
        (f"{PORTER}::test_a_source_that_fails_is_no_empty_day",),
    ),
    "a mover that wants a login is asked by every tick": (
        (("hpc/tick/porter.py", 'if not row["again"] and', "if False and"),),
        (f"{TROUBLE}::test_a_mover_that_wants_a_person_is_asked_seldom_and_says_so",),
    ),
    "somebody else's transfer is asked for": (
        (("hpc/tick/porter.py", "transfer.owner == self.user and day_id", "day_id"),),
        (f"{TROUBLE}::test_the_transfers_of_somebody_else_are_left_alone",),
    ),
    "a cancelled transfer is ordered again": (
        (("hpc/tick/porter.py", "if cancelled and day.state in BEFORE:", "if False:"),),
        (f"{TROUBLE}::test_a_cancelled_task_holds_its_day_until_a_person_releases_it",),
    ),
    "audio of a shard that is not sealed is let go": (
        (
            (
                "db/queries/transfers.sql",
                "AND s.name = f.shard AND s.state = 'done' AND s.sealed IS NOT NULL AND",
                "AND s.name = f.shard AND",
            ),
            ("db/queries/transfers.sql", "r.shard_id = s.id) = s.seal_recordings", "r.shard_id = s.id) >= 0"),
        ),
        (f"{TIDYING}::test_staged_archives_are_let_go_after_a_while_but_for_what_is_not_sealed",),
    ),
    "audio with a recording unaccounted for is let go": (
        (("db/queries/transfers.sql", "r.shard_id = s.id) = s.seal_recordings", "r.shard_id = s.id) >= 0"),),
        (f"{TIDYING}::test_nothing_is_let_go_of_a_shard_with_a_recording_unaccounted_for",),
    ),
    "a name leads out of its day's folder": (
        (("hpc/stages/listing.py", '(part in ("", ".", "..") for part', "(False for part"),),
        (f"{PORTER}::test_a_name_that_leads_out_of_its_folder_is_refused",),
    ),
    "a login that others can read is used": (
        (
            (
                "hpc/sources/globus/access.py",
                "    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):\n",
                "    if False:\n",
            ),
        ),
        (f"{LOGIN}::test_the_login_is_the_owners_alone_and_names_him",),
    ),
    "a day that repeats an hour has 144 slots": (
        (("hpc/slots.py", "return (wall - before, wall - after) if before", "return (wall - before,) if before"),),
        (SLOTS,),
    ),
    "a layout reads dates that never were": (
        (("hpc/layout.py", " or day > monthrange(year, month)[1]:", ":"),),
        (LAYOUT,),
    ),
    "what comes again is believed to be what was worked": (
        (
            (
                "db/queries/transfers.sql",
                "CASE WHEN s.id IS NULL THEN f.checksum ELSE encode(s.seal_sha256, 'hex') END",
                "NULL",
            ),
            ("db/queries/transfers.sql", "CASE WHEN s.id IS NULL THEN f.algorithm ELSE 'sha256' END", "NULL"),
        ),
        (f"{AGAIN}::test_a_source_with_other_bytes_of_the_same_size_is_told_and_never_read",),
    ),
    "what is marked to be removed is fetched": (
        (("db/queries/transfers.sql", "reason = 'to be removed' FROM days", "reason = 'to be taken away' FROM days"),),
        (f"{AGAIN}::test_what_was_marked_and_not_noted_is_removed_first_and_then_fetched",),
    ),
    "what was let go is claimed": (
        (("db/queries/redo.sql", f"{FRESH} NOT EXISTS (", f"{FRESH} (SELECT true) OR false AND NOT EXISTS ("),),
        (f"{AGAIN}::test_what_an_open_plan_reads_is_fetched_again_worked_and_let_go_again",),
    ),
    "a late tick removes what came again": (
        (
            (
                "db/queries/transfers.sql",
                " AND state = 'removed' AND reason = 'to be removed'\nORDER BY path FOR UPDATE",
                "\nORDER BY path FOR UPDATE",
            ),
        ),
        (f"{AGAIN}::test_a_tick_that_was_late_removes_nothing_that_came_again_meanwhile",),
    ),
    "a plan that is not open has something fetched": (
        (("db/migrations/0016_awaited.sql", " AND a.plan_state = 'open')", ")"),),
        (f"{AGAIN}::test_a_plan_that_is_not_open_has_nothing_fetched",),
    ),
    "a plan that reads no audio waits for it": (
        (("db/migrations/0016_awaited.sql", "WHERE k.reads_audio AND", "WHERE"),),
        (f"{AGAIN}::test_the_first_day_that_waits_for_room_may_be_one_that_a_plan_reads_again",),
    ),
    "a worker waits for a transfer": (
        (("db/queries/redo.sql", f"{LAPSE} NOT EXISTS (", f"{LAPSE} EXISTS ("),),
        (f"{AGAIN}::test_what_an_open_plan_reads_is_fetched_again_worked_and_let_go_again",),
    ),
    "what is on its way is let go": (
        (("db/queries/transfers.sql", " OR f.reason IS NOT NULL) AND f.transfer_id IS NULL\n", " OR true)\n"),),
        (f"{AGAIN}::test_of_a_plan_that_is_cancelled_meanwhile_nothing_more_is_fetched_and_what_came_is_let_go",),
    ),
    "what came again stays": (
        (
            (
                "db/transfers.py",
                '        connection.execute(SQL["tidy_anew"], {"id": row["id"], "day_id": day_id})\n',
                "",
            ),
        ),
        (f"{AGAIN}::test_what_an_open_plan_reads_is_fetched_again_worked_and_let_go_again",),
    ),
    "a day is tidied over what is on its way": (
        (
            (
                "db/queries/transfers.sql",
                " AND f.state = 'removed' AND f.transfer_id IS NOT NULL)) AS so",
                " AND false)) AS so",
            ),
        ),
        (f"{AGAIN}::test_of_a_plan_that_is_cancelled_meanwhile_nothing_more_is_fetched_and_what_came_is_let_go",),
    ),
    "a source is believed to have lost what a plan reads": (
        (("hpc/tick/again.py", 'if not gone["files"] or', "if True or"),),
        (f"{AGAIN}::test_a_source_without_it_is_believed_the_second_time_hours_later",),
    ),
    "a plan is given up for what an old listing said": (
        (("db/queries/redo.sql", "(d.look_at IS NULL OR d.look_at > clock_timestamp()) AND d.look_tries = 0 AND", ""),),
        (f"{AGAIN}::test_a_source_that_does_not_answer_is_no_source_without_it",),
    ),
}
