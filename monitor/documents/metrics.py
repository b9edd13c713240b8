"""What Prometheus scrapes: gauges read from the ledger when asked, in a registry of each answer's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from db import health
from db.connect import Connection

Sample = tuple[Sequence[str], float | None]  # the labels' values, and the number; None is not told
OUTCOMES = ("transcribed", "no_speech", "quarantined")


class _Asked(Collector):
    """What was just read."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return iter(self._families)


def exposition(connection: Connection) -> bytes:
    """All gauges in Prometheus' text format. Sites' names are the only words of the lab's that become labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Asked(_families(connection)))
    return generate_latest(registry)


def _families(connection: Connection) -> Iterator[GaugeMetricFamily]:
    banner, leases, work = health.banner(connection), health.leases(connection), health.work(connection)
    live = health.jobs_by_state(connection)
    days = [((row["site"], row["state"]), row["days"]) for row in health.days_by_state(connection)]
    jobs = [((row["kind"], row["state"]), row["jobs"]) for row in live]
    plans = [((row["state"],), row["plans"]) for row in health.live_plans(connection)]
    yield _gauge("days", "Days of a site by state.", days, "site", "state")
    recordings = [((outcome,), work[outcome]) for outcome in OUTCOMES]
    yield _gauge("recordings", "Recordings of finished days by outcome.", recordings, "outcome")
    yield _alone("audio_seconds", "Audio of finished days.", work["audio"])
    yield _alone("engine_seconds", "Time that the engine took for finished days.", work["engine"])
    yield _alone("tick_age_seconds", "Since anybody's last tick.", banner["tick_ago"])
    yield _alone("scheduling_paused", "1 while scheduling is paused.", banner["paused"] is not None)
    yield _alone("last_output_age_seconds", "Since a part was last recorded.", health.last_output(connection))
    yield _alone("shards_leased", "Shards in workers' hands.", leases["held"])
    yield _alone("leases_lapsed", "Leases that have lapsed.", leases["lapsed"])
    yield _alone("oldest_lapsed_lease_seconds", "Since the oldest lapsed lease ended.", leases["oldest_lapsed"] or 0)
    yield _gauge("jobs", "Jobs that are not over, by kind and state.", jobs, "kind", "state")
    blocked = sum(row["jobs"] for row in live if row["state"] == "blocked")
    yield _alone("jobs_blocked", "Orders that SLURM refuses.", blocked)
    yield _gauge("plans", "Plans that are not over, by state.", plans, "state")
    yield _alone("database_bytes", "Size of the ledger's database.", health.sizes(connection)["database"])


def _alone(name: str, says: str, value: float | None) -> GaugeMetricFamily:
    return _gauge(name, says, [((), value)])


def _gauge(name: str, says: str, samples: Iterable[Sample], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"dayscribe_{name}", says, labels=labels)
    for values, number in samples:
        if number is not None:
            family.add_metric(values, float(number))
    return family
