-- name: begin_choice
-- What a selection finds is gathered here, in this transaction only: (recording, why), once for each reason.
CREATE TEMP TABLE chosen (recording_id bigint NOT NULL, reason text NOT NULL) ON COMMIT DROP;

-- name: scope
-- The days that are looked at.
CREATE TEMP TABLE scope ON COMMIT DROP AS
SELECT d.id, d.date FROM days d JOIN sites i ON i.id = d.site_id
WHERE (%(site)s::text IS NULL OR i.name = %(site)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s);

-- name: index_scope
CREATE UNIQUE INDEX ON scope (id);

-- name: measure_scope
-- Before anything is picked: without it the server takes a day for a thousand days, and reads all there is.
ANALYZE scope;

-- name: measure_choice
ANALYZE chosen;

-- name: count_scope
SELECT count(*) AS days FROM scope;

-- name: pick_all
-- Whoever asks for no reason in particular does not ask for what failed under this very key.
INSERT INTO chosen SELECT r.id, 'asked for' FROM scope d JOIN recordings r ON r.day_id = d.id WHERE r.state <> 'provisional'
    AND NOT (r.state = 'quarantined' AND (
        EXISTS (SELECT FROM parts b JOIN runs u ON u.id = b.run_id WHERE b.id = r.part_id AND u.key = %(run_key)s)
        OR EXISTS (SELECT FROM plan_recordings q JOIN plans p ON p.id = q.plan_id
            WHERE q.recording_id = r.id AND q.outcome = 'failed' AND p.run_key = %(run_key)s)));

-- name: pick_named
-- In place of all: those whose id of the ledger, or name's stem, somebody wrote down.
INSERT INTO chosen SELECT r.id, 'asked for' FROM recordings r JOIN scope d ON d.id = r.day_id
WHERE r.id = ANY (%(ids)s) AND r.state <> 'provisional'
UNION SELECT r.id, 'asked for' FROM recordings r JOIN scope d ON d.id = r.day_id
WHERE r.meta_id = ANY (%(meta_ids)s) AND r.state <> 'provisional';

-- name: pick_quarantined
INSERT INTO chosen SELECT r.id, 'quarantined' FROM scope d JOIN recordings r ON r.day_id = d.id AND r.state = 'quarantined';

-- name: pick_error
-- Quarantined for one of these classes.
INSERT INTO chosen SELECT r.id, 'error=' || r.failure_class FROM scope d
JOIN recordings r ON r.day_id = d.id AND r.state = 'quarantined' WHERE r.failure_class = ANY (%(classes)s);

-- name: pick_suspect
-- Those whose current transcript has a flag; of these names only, if some are given.
INSERT INTO chosen SELECT t.recording_id, 'flag=' || f.flag FROM scope d
JOIN flags f ON f.day_id = d.id JOIN transcripts t ON t.id = f.transcript_id
JOIN recordings r ON r.id = t.recording_id AND r.current_id = t.id
WHERE %(flags)s::text[] IS NULL OR f.flag = ANY (%(flags)s);

-- name: pick_not_model
-- By its name, and by what it is: the digest of the model that has this name now.
INSERT INTO chosen SELECT r.id, 'model=' || coalesce(m.model, 'none') FROM scope d
JOIN recordings r ON r.day_id = d.id JOIN transcripts t ON t.id = r.current_id
JOIN (
    SELECT u.id, a.e ->> 'name' AS model, a.e ->> 'digest' AS digest
    FROM runs u LEFT JOIN LATERAL (
        SELECT e FROM jsonb_array_elements(u.receipt -> 'models') e WHERE e ->> 'kind' = 'asr' LIMIT 1
    ) a ON true
) m ON m.id = t.run_id
WHERE m.model IS DISTINCT FROM %(model)s AND (%(digest)s::text IS NULL OR m.digest IS DISTINCT FROM %(digest)s);

-- name: pick_not_run
-- By none of these receipts, which are those of one run.
INSERT INTO chosen SELECT r.id, 'run=' || left(encode(t.run_key, 'hex'), 12) FROM scope d
JOIN recordings r ON r.day_id = d.id JOIN transcripts t ON t.id = r.current_id
WHERE t.run_id <> ALL (%(runs)s);

-- name: pick_language
INSERT INTO chosen SELECT r.id, 'language=' || t.language FROM scope d
JOIN recordings r ON r.day_id = d.id JOIN transcripts t ON t.id = r.current_id WHERE t.language = %(language)s;

-- name: pick_longer
INSERT INTO chosen SELECT r.id, 'duration>' || %(seconds)s::text FROM scope d
JOIN recordings r ON r.day_id = d.id WHERE r.state <> 'provisional' AND r.seconds > %(seconds)s;

-- name: pick_shorter
INSERT INTO chosen SELECT r.id, 'duration<' || %(seconds)s::text FROM scope d
JOIN recordings r ON r.day_id = d.id WHERE r.state <> 'provisional' AND r.seconds < %(seconds)s;

-- name: keep_named
-- Only those whose id of the ledger, or name's stem, somebody wrote down.
DELETE FROM chosen c USING recordings r WHERE r.id = c.recording_id
    AND NOT (r.id = ANY (%(ids)s) OR r.meta_id = ANY (%(meta_ids)s));

-- name: unknown_names
-- Those that are nobody's in these days; two questions, for an index each.
SELECT n.name FROM unnest(%(names)s::text[]) AS n (name)
WHERE NOT EXISTS (SELECT FROM recordings r JOIN scope d ON d.id = r.day_id WHERE r.meta_id = n.name)
    AND NOT EXISTS (SELECT FROM recordings r JOIN scope d ON d.id = r.day_id
        WHERE r.id = CASE WHEN n.name ~ '^[0-9]{1,18}$' THEN n.name::bigint END)
ORDER BY n.name;

-- name: drop_known
-- What readers see under this key already is never made again. What is there and not seen (of a trial, of a plan that was
-- given up) stays chosen: nothing of it is made either, and then it is seen. A trial leaves all of it out.
WITH gone AS (
    DELETE FROM chosen c USING transcripts t, recordings r WHERE t.recording_id = c.recording_id AND t.run_key = %(run_key)s
        AND r.id = c.recording_id AND (%(keep_current)s OR r.current_id = t.id)
    RETURNING c.recording_id
)
SELECT count(DISTINCT recording_id) AS recordings FROM gone;

-- name: keep_transcribed
-- What has no transcript has none to be judged.
DELETE FROM chosen c USING recordings r WHERE r.id = c.recording_id AND r.current_id IS NULL;

-- name: keep_alignable
-- Texts in these languages, of this run: by the receipt's own word where only their words were timed since.
DELETE FROM chosen c WHERE NOT EXISTS (
    SELECT FROM recordings r JOIN transcripts t ON t.id = r.current_id JOIN runs u ON u.id = t.run_id
    WHERE r.id = c.recording_id AND t.outcome = 'speech'
        AND (%(languages)s::text[] IS NULL OR t.language = ANY (%(languages)s))
        AND (%(key)s::text IS NULL OR starts_with(coalesce(u.receipt #>> '{text,key}', encode(t.run_key, 'hex')), %(key)s))
        AND (%(forced_by)s::bigint IS NULL
            OR coalesce((u.receipt #>> '{text,forced_by}')::bigint, t.forced_by) = %(forced_by)s));

-- name: texts
-- By which runs the chosen texts were written, and what heard them.
SELECT x.key, x.forced_by, count(DISTINCT x.recording_id) AS recordings, (array_agg(x.models))[1] AS models
FROM (
    SELECT c.recording_id, coalesce(u.receipt #>> '{text,key}', encode(t.run_key, 'hex')) AS key,
        coalesce((u.receipt #>> '{text,forced_by}')::bigint, t.forced_by) AS forced_by,
        jsonb_path_query_array(u.receipt, '$.models[*] ? (@.kind == "asr")') AS models
    FROM chosen c JOIN recordings r ON r.id = c.recording_id JOIN transcripts t ON t.id = r.current_id JOIN runs u ON u.id = t.run_id
) x GROUP BY x.key, x.forced_by ORDER BY recordings DESC, x.key, x.forced_by;

-- name: drop_judged
-- What is judged by these rules is so with all the evidence there is: new evidence takes the mark away.
WITH gone AS (
    DELETE FROM chosen c USING recordings r, shards s WHERE r.id = c.recording_id AND s.id = r.shard_id AND s.judged = %(rules)s
    RETURNING c.recording_id
)
SELECT count(DISTINCT recording_id) AS recordings FROM gone;

-- name: put_plan
INSERT INTO plans (selection, who, why, run_key, receipt, forced, keep_current, recordings, seconds, stage)
VALUES (%(selection)s, %(who)s, %(why)s, %(run_key)s, %(receipt)s, %(forced)s, %(keep_current)s, 0, 0, %(stage)s) RETURNING id;

-- name: put_recordings
-- The plan's recordings in its order, as many as are wanted; with them the shards that have to be read.
WITH wanted AS (
    SELECT r.id, r.shard_id, r.day_id, r.current_id, d.date, array_agg(DISTINCT c.reason ORDER BY c.reason) AS reasons
    FROM chosen c JOIN recordings r ON r.id = c.recording_id JOIN days d ON d.id = r.day_id
    GROUP BY r.id, d.date
    ORDER BY CASE WHEN %(newest)s THEN NULL ELSE d.date END, CASE WHEN %(newest)s THEN d.date END DESC, r.id
    LIMIT %(limit)s
), held AS (
    INSERT INTO plan_shards (plan_id, shard_id, day_id, recordings, place, reads_audio, max_attempts)
    SELECT %(plan_id)s, w.shard_id, w.day_id, w.recordings, row_number() OVER (ORDER BY CASE WHEN %(newest)s THEN NULL ELSE w.date END,
        CASE WHEN %(newest)s THEN w.date END DESC, w.shard_id),
        (SELECT stage <> 'enrich' FROM plans WHERE id = %(plan_id)s), %(max_attempts)s
    FROM (SELECT shard_id, day_id, date, count(*) AS recordings FROM wanted GROUP BY shard_id, day_id, date) w
)
INSERT INTO plan_recordings (plan_id, recording_id, shard_id, reasons, was_id)
SELECT %(plan_id)s, id, shard_id, reasons, current_id FROM wanted;

-- name: count_recordings
UPDATE plans p SET recordings = c.recordings, seconds = c.seconds
FROM (
    SELECT count(*) AS recordings, coalesce(sum(r.seconds::float8), 0) AS seconds
    FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id WHERE q.plan_id = %(plan_id)s
) c WHERE p.id = %(plan_id)s RETURNING p.recordings;

-- name: there_already
SELECT count(*) FILTER (WHERE made) AS recordings, coalesce(sum(seconds) FILTER (WHERE made), 0)::float8 AS seconds,
    count(*) FILTER (WHERE seconds IS NULL AND NOT made) AS unmeasured
FROM (
    SELECT r.seconds, NOT %(forced)s AND EXISTS (SELECT FROM transcripts t WHERE t.recording_id = r.id AND t.run_key = %(run_key)s) AS made
    FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id WHERE q.plan_id = %(plan_id)s
) c;

-- name: put_estimate
UPDATE plans SET estimate = %(estimate)s WHERE id = %(plan_id)s;

-- name: shards_missing
-- Shards of the scope that were never read whole, and files that never came: no plan has them, since nobody knows what is in them.
SELECT count(*) FILTER (WHERE s.state = 'failed') AS failed_shards,
    count(*) FILTER (WHERE s.state IN ('ready', 'leased')) AS open_shards,
    count(*) FILTER (WHERE s.state = 'done' AND coalesce(s.judged, 0) <= 0) AS unjudged_shards,
    (SELECT count(*) FROM slots l JOIN scope d ON d.id = l.day_id
        WHERE l.kind = 'archive' AND l.finding IN ('absent_at_source', 'listed_but_missing', 'empty')) AS missing_files
FROM scope d JOIN shards s ON s.day_id = d.id;

-- name: get
SELECT * FROM plans WHERE id = %(id)s;

-- name: list
SELECT p.id, p.state, p.stage, p.selection, p.who, p.why, p.run_key, p.recordings, p.seconds, p.keep_current, p.created, p.finished, p.summary,
    s.shards, s.open AS open_shards, s.failed AS failed_shards
FROM plans p CROSS JOIN LATERAL (
    SELECT count(*) AS shards, count(*) FILTER (WHERE state IN ('ready', 'leased')) AS open, count(*) FILTER (WHERE state = 'failed') AS failed
    FROM plan_shards WHERE plan_id = p.id
) s
WHERE %(every)s OR p.state IN ('drawn', 'open', 'paused') ORDER BY p.id DESC LIMIT %(limit)s;

-- name: by_reason
-- How many recordings of each day a plan has for which reason; one with two reasons counts under both.
SELECT i.name AS site, d.date, reason, count(*) AS recordings, sum(r.seconds)::float8 AS seconds
FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
CROSS JOIN LATERAL unnest(q.reasons) AS reason
WHERE q.plan_id = %(plan_id)s GROUP BY i.name, d.date, reason ORDER BY d.date, i.name, reason;

-- name: by_day
SELECT i.name AS site, d.date, d.id AS day_id, d.staged, count(*) AS recordings, count(DISTINCT q.shard_id) AS shards, sum(r.seconds)::float8 AS seconds,
    count(*) FILTER (WHERE q.outcome = 'remade') AS remade, count(*) FILTER (WHERE q.outcome = 'known') AS known,
    count(*) FILTER (WHERE q.outcome = 'failed') AS failed
FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
WHERE q.plan_id = %(plan_id)s GROUP BY i.name, d.date, d.id ORDER BY d.date, i.name;

-- name: outcomes
SELECT count(*) AS recordings, count(*) FILTER (WHERE q.outcome = 'remade') AS remade, count(*) FILTER (WHERE q.outcome = 'known') AS known,
    count(*) FILTER (WHERE q.outcome = 'failed') AS failed, count(*) FILTER (WHERE q.outcome IS NULL) AS left,
    count(*) FILTER (WHERE q.outcome IS NULL AND r.current_id IS DISTINCT FROM q.was_id) AS changed
FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id WHERE q.plan_id = %(plan_id)s;

-- name: recordings
-- The plan's recordings one page after a key: what was, why, and what came of it.
SELECT q.recording_id AS id, i.name AS site, d.date, s.name AS shard, r.ordinal, r.meta_id, r.state, r.seconds, q.reasons, q.was_id,
    q.outcome, q.transcript_id, q.failure_class, q.failure_reason
FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id JOIN shards s ON s.id = r.shard_id
JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
WHERE q.plan_id = %(plan_id)s AND q.recording_id > %(after)s ORDER BY q.recording_id LIMIT %(limit)s;

-- name: shards
-- `how` its files come here, NULL where they are at hand; whether one of them was let go; and whether the source of one was
-- seen without it, or with another.
SELECT p.shard_id AS id, p.day_id, p.state, p.epoch, p.failure_class, p.failure_reason, i.name AS site, d.date, s.name, s.slot, s.loose, s.paths, s.size, d.staged,
    i.route ->> 'how' AS how, coalesce(f.let_go, false) AS let_go, coalesce(f.lost, false) AS lost
FROM plan_shards p JOIN shards s ON s.id = p.shard_id JOIN days d ON d.id = p.day_id JOIN sites i ON i.id = d.site_id
LEFT JOIN (
    SELECT day_id, shard, bool_or(state = 'removed') AS let_go, bool_or(gone IS NOT NULL OR size <> arrived_size) AS lost
    FROM files WHERE shard IS NOT NULL AND day_id IN (SELECT day_id FROM plan_shards WHERE plan_id = %(plan_id)s) GROUP BY day_id, shard
) f ON f.day_id = s.day_id AND f.shard = s.name
WHERE p.plan_id = %(plan_id)s ORDER BY p.place;

-- name: part_bytes
-- How large what is published of a recording was, in the shards of the plan.
SELECT coalesce(sum(p.size), 0)::float8 AS bytes, coalesce(sum(p.recordings), 0) AS recordings
FROM parts p JOIN plan_shards s ON s.shard_id = p.shard_id WHERE s.plan_id = %(plan_id)s AND p.state = 'sealed';

-- name: measured
-- Audio seconds and engine seconds: of plans and days with this very key if there are any, else of the last finished days.
SELECT coalesce(sum(b.audio), 0)::float8 AS audio, coalesce(sum(b.engine), 0)::float8 AS engine, count(*) AS days
FROM (
    SELECT (summary ->> 'audio_seconds')::float8 AS audio, (summary ->> 'engine_seconds')::float8 AS engine
    FROM days WHERE state IN ('completed', 'completed_with_errors') ORDER BY finished DESC LIMIT 30
) b WHERE b.engine > 0;

-- name: measured_of_key
SELECT coalesce(sum(b.audio), 0)::float8 AS audio, coalesce(sum(b.engine), 0)::float8 AS engine, count(*) AS plans
FROM (
    SELECT (summary ->> 'audio_seconds')::float8 AS audio, (summary ->> 'engine_seconds')::float8 AS engine
    FROM plans WHERE state = 'done' AND (run_key = %(run_key)s OR stage = %(stage)s::text) ORDER BY finished DESC LIMIT 10
) b WHERE b.engine > 0;

-- name: move
UPDATE plans SET state = %(to)s, changed = now(), started = CASE WHEN %(to)s = 'open' THEN coalesce(started, now()) ELSE started END,
    finished = CASE WHEN %(to)s = 'cancelled' THEN now() ELSE NULL END, summary = NULL
WHERE id = %(id)s AND state = ANY (%(from)s);

-- name: retry_failed
UPDATE plan_shards SET state = 'ready', attempts = 0, ready_at = now(), failure_class = NULL, failure_reason = NULL, changed = now()
WHERE plan_id = %(id)s AND state = 'failed';

-- name: retry_recordings
UPDATE plan_recordings SET outcome = NULL, failure_class = NULL, failure_reason = NULL
WHERE plan_id = %(id)s AND outcome = 'failed';

-- name: reopen_shards
-- Those that have a recording to make again.
UPDATE plan_shards s SET state = 'ready', attempts = 0, ready_at = now(), changed = now()
WHERE s.plan_id = %(id)s AND s.state = 'done'
    AND EXISTS (SELECT FROM plan_recordings q WHERE q.plan_id = s.plan_id AND q.shard_id = s.shard_id AND q.outcome IS NULL);

-- name: claimable
SELECT count(*) AS shards FROM plan_shards s JOIN plans p ON p.id = s.plan_id
WHERE s.plan_id = %(plan_id)s AND s.day_id = %(day_id)s AND p.state = 'open' AND ((s.state = 'ready' AND s.ready_at <= now())
    OR (s.state = 'leased' AND s.lease_until < now() AND s.attempts < s.max_attempts))
    AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id);

-- name: lock_days
-- In the order in which everyone takes them.
SELECT id FROM days WHERE id IN (SELECT day_id FROM plan_shards WHERE plan_id = %(plan_id)s) ORDER BY id FOR NO KEY UPDATE;

-- name: awaited
-- What the plan waits for: archives that were let go, their bytes, and how many of them are on their way.
SELECT count(DISTINCT shard_id) AS archives, coalesce(sum(size), 0)::bigint AS bytes,
    count(DISTINCT shard_id) FILTER (WHERE transfer_id IS NOT NULL) AS moving
FROM awaited WHERE plan_id = %(plan_id)s;

-- name: awaited_days
-- Days of which something was let go, or is on its way.
SELECT i.name AS site, d.date, d.id AS day_id FROM (
    SELECT day_id FROM awaited WHERE plan_id = %(plan_id)s
    UNION
    SELECT k.day_id FROM plan_shards k JOIN transfers t ON t.day_id = k.day_id
    WHERE k.plan_id = %(plan_id)s AND k.reads_audio AND k.state IN ('ready', 'leased') AND t.what = 'archives' AND t.finished IS NULL
) w JOIN days d ON d.id = w.day_id JOIN sites i ON i.id = d.site_id ORDER BY d.date, i.name;
