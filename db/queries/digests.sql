-- name: finished
-- The days that were finished since then.
SELECT i.name AS site, d.date, d.state, d.summary, d.started, d.finished FROM days d JOIN sites i ON i.id = d.site_id
WHERE d.state IN ('completed', 'completed_with_errors') AND d.finished >= %(since)s ORDER BY d.finished, d.id;

-- name: quarantined
-- Why recordings have no transcript, of the days that were finished since then and of those at work.
SELECT r.failure_class, count(*) AS recordings, count(DISTINCT d.id) AS days, min(r.failure_reason) AS example
FROM days d JOIN recordings r ON r.day_id = d.id AND r.state = 'quarantined'
WHERE d.state IN ('processing', 'processing_failed')
    OR (d.state IN ('completed', 'completed_with_errors') AND d.finished >= %(since)s)
GROUP BY r.failure_class ORDER BY 2 DESC, 1;

-- name: failed_shards
SELECT s.failure_class, count(*) AS shards, count(DISTINCT d.id) AS days, min(s.failure_reason) AS example
FROM days d JOIN shards s ON s.day_id = d.id AND s.state = 'failed'
WHERE d.state IN ('ready_to_process', 'processing', 'processing_failed')
    OR (d.state IN ('completed', 'completed_with_errors') AND d.finished >= %(since)s)
GROUP BY s.failure_class ORDER BY 2 DESC, 1;

-- name: failed_jobs
-- Jobs that ended badly since then, by what was said of them.
SELECT coalesce(message, '') AS message, count(*) AS jobs, max(id) AS id FROM jobs
WHERE state = 'failed' AND finished >= %(since)s GROUP BY 1 ORDER BY 2 DESC, 3;

-- name: failed_movements
-- Transfers and deliveries that came to nothing since then, by how.
SELECT 'transfer' AS what, t.state, count(*) AS times, max(t.message) AS example FROM transfers t
WHERE t.finished >= %(since)s AND t.state <> 'succeeded' GROUP BY t.state
UNION ALL
SELECT 'delivery', v.state, count(*), max(v.message) FROM deliveries v
WHERE v.state = 'failed' AND v.changed >= %(since)s GROUP BY v.state ORDER BY 1, 3 DESC;

-- name: under_way
-- Days at work: what of their bytes is settled, and since when somebody works on them.
SELECT i.name AS site, d.date, d.state, count(s.id) AS shards, count(s.id) FILTER (WHERE s.state IN ('done', 'failed')) AS settled,
    coalesce(sum(s.size), 0)::float8 AS bytes,
    coalesce(sum(s.size) FILTER (WHERE s.state IN ('done', 'failed')), 0)::float8 AS settled_bytes,
    count(s.id) FILTER (WHERE s.state = 'leased' AND s.lease_until > clock_timestamp()) AS at_work,
    extract(epoch FROM clock_timestamp() - d.started)::float8 AS seconds
FROM days d JOIN sites i ON i.id = d.site_id LEFT JOIN shards s ON s.day_id = d.id
WHERE d.state IN ('transferring', 'ready_to_process', 'processing') GROUP BY d.id, i.name ORDER BY d.date, i.name;

-- name: plans
-- Those that were done since then, and those that are not over.
SELECT p.id, p.state, p.stage, p.why, p.recordings, p.summary,
    (SELECT count(*) FROM plan_recordings q WHERE q.plan_id = p.id AND q.outcome IS NOT NULL) AS settled
FROM plans p WHERE p.state IN ('open', 'paused') OR (p.state = 'done' AND p.finished >= %(since)s) ORDER BY p.id;

-- name: waiting
SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'held') AS held FROM days
WHERE state IN ('pending', 'held');

-- name: since_ago
SELECT clock_timestamp() - %(ago)s AS since;
