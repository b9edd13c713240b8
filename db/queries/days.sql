-- name: add
-- New days of a site; days that are there already stay as they are.
INSERT INTO days (site_id, date) SELECT %(site_id)s, unnest(%(dates)s::date[]) ON CONFLICT DO NOTHING;

-- name: get
SELECT d.*, s.name AS site, s.slot_minutes, s.time_zone FROM days d JOIN sites s ON s.id = d.site_id
WHERE s.name = %(site)s AND d.date = %(date)s;

-- name: get_by_id
SELECT d.*, s.name AS site, s.slot_minutes, s.time_zone FROM days d JOIN sites s ON s.id = d.site_id WHERE d.id = %(id)s;

-- name: list
SELECT d.id, s.name AS site, d.date, d.state, d.revision, d.message, d.summary, d.created, d.changed, d.started, d.finished
FROM days d JOIN sites s ON s.id = d.site_id
WHERE (%(site)s::text IS NULL OR s.name = %(site)s) AND (%(state)s::text IS NULL OR d.state = %(state)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
ORDER BY d.date, s.name LIMIT %(limit)s;

-- name: lock
-- The day's row is locked before anything of it is counted: two settlers cannot both see the other's shard as open.
-- NO KEY: whoever only inserts rows that refer to the day need not wait.
SELECT id, state FROM days WHERE id = %(id)s FOR NO KEY UPDATE;

-- name: lock_of_shard
SELECT d.id, d.state FROM days d WHERE d.id = (SELECT day_id FROM shards WHERE id = %(shard_id)s) FOR NO KEY UPDATE;

-- name: move
-- Compare-and-set: only from a state that may become the wanted one.
UPDATE days SET state = %(to)s, message = %(message)s, changed = now(),
    started = CASE WHEN %(to)s = 'processing' THEN coalesce(started, now()) ELSE started END,
    finished = CASE WHEN %(to)s IN ('completed', 'completed_with_errors') THEN now() ELSE NULL END,
    tidied = CASE WHEN %(to)s IN ('completed', 'completed_with_errors') THEN NULL ELSE tidied END,
    summary = coalesce(%(summary)s, summary)
WHERE id = %(id)s AND state = ANY (%(from)s);

-- name: hold
UPDATE days SET state = 'held', held_from = state, message = %(message)s, changed = now()
WHERE id = %(id)s AND state <> 'held';

-- name: release
UPDATE days SET state = held_from, held_from = NULL, message = NULL, changed = now() WHERE id = %(id)s AND state = 'held';

-- name: listed
-- What a listing changes of the day: where its files are, and its revision when the listing grew.
UPDATE days SET staged = %(staged)s, revision = %(revision)s, changed = now() WHERE id = %(id)s;

-- name: open_shards
SELECT count(*) FILTER (WHERE state IN ('ready', 'leased')) AS open, count(*) AS shards,
    count(*) FILTER (WHERE state = 'failed') AS failed
FROM shards WHERE day_id = %(id)s;

-- name: count
-- One day by state, through the index on (day_id, state); cost follows the day, not the history.
SELECT state, count(*) AS recordings, coalesce(sum(seconds), 0)::float8 AS seconds
FROM recordings WHERE day_id = %(id)s GROUP BY state;

-- name: failures
SELECT failure_class, count(*) AS recordings, min(failure_reason) AS example
FROM recordings WHERE day_id = %(id)s AND state = 'quarantined' GROUP BY failure_class ORDER BY 2 DESC, 1;

-- name: failed_shards
SELECT name, failure_class, failure_reason FROM shards WHERE day_id = %(id)s AND state = 'failed' ORDER BY name;

-- name: missing_files
-- Audio that the source has, or had, and that never came here.
SELECT count(*) AS files FROM files WHERE day_id = %(id)s AND kind IN ('archive', 'loose')
    AND (state IN ('missing', 'wrong', 'waived') OR (state = 'gone' AND arrived IS NULL));

-- name: engine_seconds
SELECT coalesce(sum(p.engine_seconds), 0)::float8 AS seconds FROM parts p JOIN shards s ON s.id = p.shard_id
WHERE s.day_id = %(id)s AND p.state = 'sealed' AND p.plan_id IS NULL;

-- name: put_summary
-- A plan's results change what a finished day counts, never its state.
UPDATE days SET summary = %(summary)s, changed = now() WHERE id = %(id)s AND summary IS NOT NULL;

-- name: put_slots
INSERT INTO slots (day_id, slot, kind, finding, name, size, begins, revision)
SELECT %(day_id)s, slot, kind, finding, name, size, begins, %(revision)s
FROM unnest(%(slot)s::text[], %(kind)s::text[], %(finding)s::text[], %(name)s::text[], %(size)s::bigint[], %(begins)s::timestamptz[])
    AS t (slot, kind, finding, name, size, begins)
ON CONFLICT (day_id, slot, kind) DO UPDATE SET finding = EXCLUDED.finding, name = EXCLUDED.name, size = EXCLUDED.size,
    begins = EXCLUDED.begins, revision = EXCLUDED.revision, changed = now()
WHERE (slots.finding, slots.name, slots.size, slots.begins)
    IS DISTINCT FROM (EXCLUDED.finding, EXCLUDED.name, EXCLUDED.size, EXCLUDED.begins);

-- name: slots
SELECT l.slot, l.kind, l.finding, l.name, l.size, l.begins, s.state AS shard_state, s.id AS shard_id, f.verified IS NOT NULL AS verified
FROM slots l LEFT JOIN files f ON f.day_id = l.day_id AND f.slot = l.slot AND f.kind = l.kind
LEFT JOIN shards s ON s.day_id = l.day_id AND s.slot = l.slot AND l.kind = 'archive'
WHERE l.day_id = %(id)s ORDER BY l.slot, l.kind;

-- name: status
-- The reference pipeline's status summary.
SELECT state AS status, count(*) AS count, min(date) AS oldest, max(date) AS newest FROM days GROUP BY state ORDER BY state;

-- name: recent
SELECT date, (finished - started)::text AS duration, (summary ->> 'recordings')::bigint AS files, finished
FROM days WHERE state IN ('completed', 'completed_with_errors') ORDER BY finished DESC LIMIT 10;
