-- name: years
-- The years that a site has days of; the table of days is small, a row a day.
SELECT extract(year FROM d.date)::int AS year, count(*) AS days FROM days d JOIN sites i ON i.id = d.site_id
WHERE %(site)s::text IS NULL OR i.name = %(site)s GROUP BY 1 ORDER BY 1 DESC;

-- name: days
-- The days of a range with what their summaries say (law 6: nothing is counted here).
SELECT i.name AS site, d.date, d.state, (d.summary ->> 'recordings')::bigint AS recordings,
    (d.summary ->> 'transcribed')::bigint AS transcribed, (d.summary ->> 'no_speech')::bigint AS no_speech,
    (d.summary ->> 'quarantined')::bigint AS quarantined, (d.summary ->> 'audio_seconds')::float8 AS audio_seconds,
    (d.summary ->> 'engine_seconds')::float8 AS engine_seconds
FROM days d JOIN sites i ON i.id = d.site_id
WHERE (%(site)s::text IS NULL OR i.name = %(site)s) AND d.date BETWEEN %(start)s AND %(stop)s
ORDER BY i.name, d.date;

-- name: speed
-- What a day's workers recorded, minute by minute: through the index on its shards and theirs on parts.
SELECT date_trunc('minute', p.recorded) AS minute, sum(p.recordings)::bigint AS recordings,
    coalesce(sum(p.engine_seconds), 0)::float8 AS engine_seconds,
    CASE WHEN bool_and(p.audio_seconds IS NOT NULL) THEN sum(p.audio_seconds) END::float8 AS audio_seconds
FROM shards s JOIN parts p ON p.shard_id = s.id
WHERE s.day_id = %(day_id)s AND p.state <> 'discarded' AND p.plan_id IS NULL
GROUP BY 1 ORDER BY 1;

-- name: examples
-- Of each class of failure its number, and one recording to look at.
SELECT failure_class, count(*) AS recordings, min(id) AS example, min(failure_reason) AS reason
FROM recordings WHERE day_id = %(day_id)s AND state = 'quarantined' GROUP BY failure_class ORDER BY 2 DESC, 1;

-- name: failed_shards
SELECT id, name, slot, failure_class, failure_reason FROM shards WHERE day_id = %(day_id)s AND state = 'failed' ORDER BY name LIMIT 200;

-- name: shard
SELECT s.*, i.name AS site, d.date, s.lease_until < now() AS lapsed FROM shards s JOIN days d ON d.id = s.day_id
JOIN sites i ON i.id = d.site_id WHERE s.id = %(id)s;

-- name: parts
SELECT name, epoch, recordings, size, state, engine_seconds, recorded, plan_id FROM parts WHERE shard_id = %(id)s
ORDER BY id DESC LIMIT 100;

-- name: of_shard
-- A shard's visible recordings, a page after an ordinal.
SELECT r.id, r.ordinal, r.meta_id, r.state, r.seconds, r.failure_class, t.language, left(t.text, 120) AS excerpt
FROM recordings r LEFT JOIN transcripts t ON t.id = r.current_id
WHERE r.shard_id = %(id)s AND r.state <> 'provisional' AND r.ordinal > %(after)s ORDER BY r.ordinal LIMIT %(limit)s;

-- name: of_day
-- A day's visible recordings in its order, a page after an id.
SELECT r.id, r.ordinal, s.slot, r.shard_id, r.meta_id, r.state, r.seconds, r.failure_class, t.language, left(t.text, 120) AS excerpt
FROM recordings r JOIN shards s ON s.id = r.shard_id LEFT JOIN transcripts t ON t.id = r.current_id
WHERE r.day_id = %(day_id)s AND r.state <> 'provisional' AND (%(state)s::text IS NULL OR r.state = %(state)s)
    AND (%(failure_class)s::text IS NULL OR r.failure_class = %(failure_class)s) AND r.id > %(after)s
ORDER BY r.id LIMIT %(limit)s;

-- name: flagged_of_day
-- The same of those whose current transcript has this flag, or any: through the flags' own index.
WITH here AS (
    SELECT r.id FROM flags f JOIN transcripts t ON t.id = f.transcript_id
    JOIN recordings r ON r.id = t.recording_id AND r.current_id = t.id
    WHERE f.day_id = %(day_id)s AND (%(flag)s::text IS NULL OR f.flag = %(flag)s) AND r.id > %(after)s
    GROUP BY r.id ORDER BY r.id LIMIT %(limit)s
)
SELECT r.id, r.ordinal, s.slot, r.shard_id, r.meta_id, r.state, r.seconds, r.failure_class, t.language, left(t.text, 120) AS excerpt
FROM here JOIN recordings r ON r.id = here.id JOIN shards s ON s.id = r.shard_id LEFT JOIN transcripts t ON t.id = r.current_id
ORDER BY r.id;
