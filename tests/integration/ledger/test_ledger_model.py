"""The ledger against a model of it: three workers who claim, lapse, crash and come back in any order that may be."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from db import days, shards
from db.errors import LeaseLost
from db.states import DayState

LEASE = timedelta(hours=1)  # of the ledger's clock, which only `lapse` moves
WORKERS = st.sampled_from("ABC")
_dates = (date(1900, 1, 1) + timedelta(days=n) for n in itertools.count())


@dataclass
class Model:
    """What the ledger should know of one shard."""

    size: int  # recordings in its archive
    state: str = "ready"
    epoch: int = 0
    lapsed: bool = False
    discarded: int = 0  # nothing that was read up to this epoch is taken
    known: dict[int, str] = field(default_factory=dict)  # ordinal → the text that came first

    @property
    def free(self) -> bool:
        return self.state == "ready" or (self.state == "leased" and self.lapsed)


class Ledger(RuleBasedStateMachine):
    """`held` is what each worker believes to hold; a crash forgets it, a lapse does not."""

    def __init__(self, books: Any, speech: Any) -> None:
        super().__init__()
        self.books, self.speech = books, speech
        self.models: dict[int, Model] = {}
        self.held: dict[tuple[str, int], shards.Leased] = {}

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=2, max_size=3))
    def day_with_shards(self, sizes: list[int]) -> None:
        names = [f"{n}" for n in range(len(sizes))]
        self.day = self.books.day(*names, on=next(_dates), max_attempts=1000)
        ids = [row["id"] for row in shards.of_day(self.books.connection, self.day.id)]
        self.models = {shard: Model(size) for shard, size in zip(ids, sizes, strict=True)}

    def teardown(self) -> None:
        """Leave nothing that the next example's claims would look at."""
        done = "UPDATE days SET state = 'held', held_from = 'pending' WHERE state IN ('ready_to_process', 'processing')"
        self.books.connection.execute(done)

    @rule(worker=WORKERS, count=st.integers(1, 2))
    def claim(self, worker: str, count: int) -> None:
        free = [shard for shard, model in self.models.items() if model.free]
        got = shards.claim(self.books.connection, owner=worker, count=count, lease=LEASE, day_id=self.day.id)
        assert len(got) == min(count, len(free))
        for leased in got:
            model = self.models[leased.id]
            assert model.free, "a shard was claimed that is done, failed, or another's under a living lease"
            assert leased.epoch == model.epoch + 1
            assert set(leased.known) == set(model.known)
            model.state, model.epoch, model.lapsed = "leased", leased.epoch, False
            self.held[worker, leased.id] = leased

    @precondition(lambda self: any(model.state == "leased" for model in self.models.values()))
    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        leased = [shard for shard, model in self.models.items() if model.state == "leased"]
        shard = data.draw(st.sampled_from(leased))
        late = "UPDATE shards SET lease_until = now() - interval '1 s' WHERE id = %s"
        self.books.connection.execute(late, [shard])
        self.models[shard].lapsed = True

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted({worker for worker, _ in self.held})))
        pairs = [(leased.id, leased.epoch) for (who, _), leased in self.held.items() if who == worker]
        ours = {shard for shard, epoch in pairs if self._is_ours(shard, epoch)}
        assert shards.renew(self.books.connection, pairs, lease=LEASE) == ours
        for shard in ours:
            self.models[shard].lapsed = False

    @precondition(lambda self: self.held)
    @rule(data=st.data(), whole=st.booleans(), seal=st.booleans())
    def record(self, data: st.DataObject, whole: bool, seal: bool) -> None:
        worker, leased = self._pick(data)
        model = self.models[leased.id]
        every = range(model.size)
        ordinals = list(every) if whole else data.draw(st.lists(st.sampled_from(every), unique=True))
        text = f"{worker} {leased.epoch}"
        ours = self._is_ours(leased.id, leased.epoch)
        recorded = self.books.record(
            leased, [self.speech(ordinal, text) for ordinal in ordinals], seal=model.size if seal else None
        )
        if model.state != "done" and leased.epoch > model.discarded:
            model.known = dict.fromkeys(ordinals, text) | model.known
        settled = seal and ours and len(model.known) == model.size
        assert (recorded.new, recorded.settled, recorded.stale) == (True, settled, not ours)
        if settled:
            model.state = "done"
            del self.held[worker, leased.id]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["fail", "discard", "release"]))
    def close(self, data: st.DataObject, how: str) -> None:
        worker, leased = self._pick(data)
        model = self.models[leased.id]
        where = (self.books.connection, leased.id, leased.epoch)
        try:
            if how == "release":
                shards.release(*where)
            else:
                shards.fail(*where, failure=("x", "y"), actor=worker, discard=how == "discard")
            closed = True
        except LeaseLost:
            closed = False
        assert closed == self._is_ours(leased.id, leased.epoch)
        if closed:
            model.state = "ready" if how == "release" else "failed"
            if how == "discard":
                model.known, model.discarded = {}, leased.epoch
        del self.held[worker, leased.id]

    @rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        self.held = {key: leased for key, leased in self.held.items() if key[0] != worker}

    @precondition(lambda self: any(model.state == "failed" for model in self.models.values()))
    @rule()
    def retry(self) -> None:
        failed = [model for model in self.models.values() if model.state == "failed"]
        assert shards.retry(self.books.connection, self.day, actor="me") == len(failed)
        for model in failed:
            model.state = "ready"

    @invariant()
    def the_ledger_is_as_the_model(self) -> None:
        if not self.models:
            return
        found = self.books.rows("SELECT id, state, epoch FROM shards WHERE day_id = %s ORDER BY id", self.day.id)
        assert found == [(shard, model.state, model.epoch) for shard, model in sorted(self.models.items())]
        rows = self.books.rows(
            "SELECT r.shard_id, r.ordinal, t.text, r.state = 'provisional' FROM recordings r"
            " JOIN transcripts t ON t.recording_id = r.id WHERE r.day_id = %s ORDER BY 1, 2",
            self.day.id,
        )
        assert rows == [
            (shard, ordinal, text, model.state != "done")
            for shard, model in sorted(self.models.items())
            for ordinal, text in sorted(model.known.items())
        ]
        done = "SELECT shard_id, (detail ->> 'epoch')::int FROM events"
        done += " WHERE day_id = %s AND what = 'shard.done' ORDER BY 1"
        settled = [(shard, model.epoch) for shard, model in sorted(self.models.items()) if model.state == "done"]
        assert self.books.rows(done, self.day.id) == settled
        assert days.by_id(self.books.connection, self.day.id).state in self._states()

    def _states(self) -> set[DayState]:
        states = {model.state for model in self.models.values()}
        if states <= {"done", "failed"}:
            return {DayState.COMPLETED_WITH_ERRORS if "failed" in states else DayState.COMPLETED}
        return {DayState.READY_TO_PROCESS, DayState.PROCESSING}

    def _is_ours(self, shard: int, epoch: int) -> bool:
        model = self.models[shard]
        return model.state == "leased" and model.epoch == epoch

    def _pick(self, data: st.DataObject) -> tuple[str, shards.Leased]:
        (worker, _), leased = data.draw(st.sampled_from(sorted(self.held.items(), key=lambda item: item[0])))
        return worker, leased


def test_no_order_of_events_makes_the_ledger_differ_from_its_model(books: Any, speech: Any) -> None:
    run(
        lambda: Ledger(books, speech),
        settings=settings(
            max_examples=200, stateful_step_count=20, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],  # twenty steps are short enough to read
        ),
    )  # fmt: skip
