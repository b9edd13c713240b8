-- name: engine_seconds
SELECT coalesce(sum(engine_seconds), 0)::float8 AS seconds FROM parts WHERE plan_id = %(plan_id)s;

-- name: audio_seconds
SELECT coalesce(sum(r.seconds), 0)::float8 AS seconds FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id
WHERE q.plan_id = %(plan_id)s AND q.outcome = 'remade';

-- name: claim
-- Fresh shards of the plan and those whose lease has lapsed, in its order; every claim raises the epoch. What was let go has
-- to come again first.
WITH fresh AS (
    SELECT s.shard_id, s.place FROM plan_shards s JOIN plans p ON p.id = s.plan_id
    WHERE s.plan_id = %(plan_id)s AND p.state = 'open' AND s.state = 'ready' AND s.ready_at <= now()
        AND (%(day_id)s::bigint IS NULL OR s.day_id = %(day_id)s)
        AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id)
    ORDER BY s.place LIMIT %(count)s FOR UPDATE OF s SKIP LOCKED
), lapsed AS (
    SELECT s.shard_id, s.place FROM plan_shards s JOIN plans p ON p.id = s.plan_id
    WHERE s.plan_id = %(plan_id)s AND p.state = 'open' AND s.state = 'leased' AND s.lease_until < now() AND s.attempts < s.max_attempts
        AND (%(day_id)s::bigint IS NULL OR s.day_id = %(day_id)s)
        AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id)
    ORDER BY s.place LIMIT %(count)s FOR UPDATE OF s SKIP LOCKED
), taken AS (
    SELECT shard_id FROM (SELECT * FROM lapsed UNION ALL SELECT * FROM fresh) u ORDER BY place LIMIT %(count)s
)
UPDATE plan_shards s SET state = 'leased', owner = %(owner)s, epoch = s.epoch + 1, attempts = s.attempts + 1,
    lease_until = clock_timestamp() + %(lease)s, changed = now(), failure_class = NULL, failure_reason = NULL
FROM taken, shards h, days d, sites i, plans p
WHERE s.plan_id = %(plan_id)s AND p.id = s.plan_id AND s.shard_id = taken.shard_id AND h.id = s.shard_id AND d.id = s.day_id AND i.id = d.site_id
RETURNING s.shard_id AS id, s.day_id, s.place, h.name, h.slot, h.loose, h.paths, s.epoch, d.staged, d.date, i.name AS site, p.stage;

-- name: note_known
-- What somebody else made under this key since the plan was drawn.
UPDATE plan_recordings q SET outcome = 'known', transcript_id = t.id
FROM transcripts t, plans p WHERE q.plan_id = %(plan_id)s AND q.shard_id = %(shard_id)s AND q.outcome IS NULL
    AND p.id = q.plan_id AND NOT p.forced AND t.recording_id = q.recording_id AND t.run_key = p.run_key;

-- name: of_shard
-- All recordings of a shard, by which its archive is known again, and which of them the plan has yet to make.
SELECT r.ordinal, r.sha256, EXISTS (
    SELECT FROM plan_recordings q WHERE q.plan_id = %(plan_id)s AND q.recording_id = r.id AND q.outcome IS NULL) AS wanted
FROM recordings r WHERE r.shard_id = %(shard_id)s;

-- name: said
-- What was said in those that are left: the version that the plan was drawn of, whatever readers see by now.
SELECT r.ordinal, t.language, t.language_probability, t.flags, t.words, t.chunks
FROM plan_recordings q JOIN recordings r ON r.id = q.recording_id JOIN transcripts t ON t.id = q.was_id
WHERE q.plan_id = %(plan_id)s AND q.shard_id = %(shard_id)s AND q.outcome IS NULL ORDER BY r.ordinal;

-- name: waits
SELECT EXISTS (
    SELECT FROM plan_shards s JOIN plans p ON p.id = s.plan_id WHERE s.plan_id = %(plan_id)s AND p.state = 'open'
        AND (%(day_id)s::bigint IS NULL OR s.day_id = %(day_id)s)
        AND ((s.state = 'ready' AND s.ready_at <= now()) OR (s.state = 'leased' AND s.lease_until < now()))
        AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id)
) AS so;

-- name: next_lapse
-- Seconds until the next claimable moment of the plan; what has to be fetched first is nothing that a worker waits for.
SELECT count(*) AS open, greatest(0, extract(epoch FROM min(CASE s.state WHEN 'leased' THEN s.lease_until ELSE s.ready_at END)
    - clock_timestamp()))::float8 AS seconds
FROM plan_shards s WHERE s.plan_id = %(plan_id)s AND s.state IN ('ready', 'leased')
    AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id);

-- name: exhausted
-- Of a plan, or of all.
SELECT plan_id, shard_id, epoch FROM plan_shards
WHERE (%(plan_id)s::bigint IS NULL OR plan_id = %(plan_id)s) AND state = 'leased' AND lease_until < now() AND attempts >= max_attempts;

-- name: renew
UPDATE plan_shards s SET lease_until = clock_timestamp() + %(lease)s
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[]) AS held (id, epoch)
WHERE s.plan_id = %(plan_id)s AND s.shard_id = held.id AND s.epoch = held.epoch AND s.state = 'leased' RETURNING s.shard_id AS id;

-- name: renew_owned
UPDATE plan_shards SET lease_until = clock_timestamp() + %(lease)s
WHERE plan_id = %(plan_id)s AND state = 'leased' AND owner = %(owner)s;

-- name: owned
SELECT shard_id AS id, epoch FROM plan_shards
WHERE plan_id = %(plan_id)s AND state = 'leased' AND owner = %(owner)s ORDER BY place;

-- name: backlog
-- Days of open plans with work that can be claimed now, without a live order; the oldest plan first, each in its order. An
-- archive counts by the share of its recordings that is made again. What needs no machine of its own has no jobs.
SELECT d.id, i.id AS site_id, i.name AS site, d.date, d.state, w.shards, w.bytes, w.plan_id, f.fruitless,
    extract(epoch FROM clock_timestamp() - f.last)::float8 AS last_ago, f.reason
FROM (
    SELECT s.plan_id, s.day_id, min(s.place) AS place, count(*) AS shards,
        sum(h.size * s.recordings / greatest(h.seal_recordings, 1))::bigint AS bytes
    FROM plans p JOIN plan_shards s ON s.plan_id = p.id JOIN shards h ON h.id = s.shard_id
    WHERE p.state = 'open' AND p.stage <> 'enrich' AND ((s.state = 'ready' AND s.ready_at <= now())
        OR (s.state = 'leased' AND s.lease_until < now() AND s.attempts < s.max_attempts))
        AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id)
    GROUP BY s.plan_id, s.day_id
) w
JOIN days d ON d.id = w.day_id JOIN sites i ON i.id = d.site_id
CROSS JOIN LATERAL (
    SELECT count(*) AS fruitless, max(j.finished) AS last, (array_agg(j.message ORDER BY j.id DESC))[1] AS reason
    FROM jobs j JOIN plans p ON p.id = j.plan_id
    WHERE j.plan_id = w.plan_id AND j.day_id = d.id AND j.state = 'failed' AND NOT j.fruitful AND j.created > p.changed
        AND j.id > coalesce((SELECT max(k.id) FROM jobs k WHERE k.plan_id = w.plan_id AND k.day_id = d.id AND k.fruitful), 0)
) f
WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.day_id = d.id AND j.kind = 'redo'
    AND j.state IN ('intent', 'submitted', 'running', 'blocked', 'unknown'))
ORDER BY w.plan_id, w.place;

-- name: days_open
-- The days of open plans, whose parts may wait to be recorded.
SELECT DISTINCT s.plan_id, i.name AS site, d.date FROM plans p JOIN plan_shards s ON s.plan_id = p.id
JOIN days d ON d.id = s.day_id JOIN sites i ON i.id = d.site_id
WHERE p.state = 'open' AND s.state IN ('ready', 'leased') ORDER BY s.plan_id, d.date LIMIT %(limit)s;

-- name: lock_shard
SELECT s.state, s.epoch, p.run_key, p.forced, p.keep_current FROM plan_shards s JOIN plans p ON p.id = s.plan_id
WHERE s.plan_id = %(plan_id)s AND s.shard_id = %(shard_id)s FOR NO KEY UPDATE OF s;

-- name: put_part
-- A part that comes too late to be of use is recorded as discarded.
INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, engine_seconds, plan_id, state)
SELECT %(name)s, s.shard_id, %(epoch)s, %(run_id)s, %(sha256)s, %(size)s, %(recordings)s, %(engine_seconds)s, s.plan_id,
    CASE s.state WHEN 'done' THEN 'discarded' ELSE 'provisional' END
FROM plan_shards s WHERE s.plan_id = %(plan_id)s AND s.shard_id = %(shard_id)s
ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: lock_recordings
-- In the order of their ids; versions are counted only afterwards. Without ordinals all of the shard: whoever lets readers
-- see it moves those of earlier parts, too, and would take them after these while another plan goes through them in order.
SELECT r.ordinal, r.sha256 FROM recordings r
WHERE r.shard_id = %(shard_id)s AND (%(ordinals)s::int[] IS NULL OR r.ordinal = ANY (%(ordinals)s::int[]))
ORDER BY r.id FOR NO KEY UPDATE;

-- name: adoption
-- Of what a plan made of whole shards: how much was not moved to readers, how much was, and what of that they see now.
SELECT count(*) FILTER (WHERE NOT q.moved AND s.state = 'done') AS left, count(*) FILTER (WHERE q.moved) AS moved,
    count(*) FILTER (WHERE q.moved AND r.current_id = q.transcript_id) AS seen
FROM plan_recordings q JOIN plan_shards s ON s.plan_id = q.plan_id AND s.shard_id = q.shard_id JOIN recordings r ON r.id = q.recording_id
WHERE q.plan_id = %(plan_id)s AND q.outcome IN ('remade', 'known');

-- name: lock_made
-- What a trial made of whole shards, in the order of their ids.
SELECT r.id FROM recordings r JOIN plan_recordings q ON q.recording_id = r.id
WHERE q.plan_id = %(plan_id)s AND q.outcome IN ('remade', 'known') ORDER BY r.id FOR NO KEY UPDATE OF r;

-- name: put_result
-- One version more of a recording; the first for (recording, key) wins, whoever brings it.
WITH made AS (
    INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, language_probability, text, words,
        word_count, flags, part_id, chunks, avg_logprob, no_speech_prob, compression_ratio, coverage, plan_id, forced_by)
    SELECT r.id, %(run_id)s, %(run_key)s, coalesce((SELECT max(t.version) FROM transcripts t WHERE t.recording_id = r.id), 0) + 1,
        %(outcome)s, %(language)s, %(language_probability)s, %(text)s, %(words)s, %(word_count)s, %(transcript_flags)s, %(part_id)s,
        %(chunks)s, %(avg_logprob)s, %(no_speech_prob)s, %(compression_ratio)s, %(coverage)s, %(plan_id)s, %(forced_by)s
    FROM recordings r JOIN plan_recordings q ON q.plan_id = %(plan_id)s AND q.recording_id = r.id AND q.outcome IS NULL
    WHERE r.shard_id = %(shard_id)s AND r.ordinal = %(ordinal)s
    ON CONFLICT (recording_id, run_key, forced_by) DO NOTHING RETURNING id, recording_id
)
UPDATE plan_recordings q SET outcome = 'remade', transcript_id = made.id
FROM made WHERE q.plan_id = %(plan_id)s AND q.recording_id = made.recording_id;

-- name: put_length
-- What nobody could decode before has a length now: a fact of its bytes, whoever sees what of its words.
UPDATE recordings SET seconds = %(seconds)s, flags = %(flags)s
WHERE shard_id = %(shard_id)s AND ordinal = %(ordinal)s AND seconds IS NULL AND %(seconds)s::real IS NOT NULL;

-- name: put_failure
UPDATE plan_recordings q SET outcome = 'failed', failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
FROM recordings r WHERE q.plan_id = %(plan_id)s AND q.recording_id = r.id AND q.outcome IS NULL
    AND r.shard_id = %(shard_id)s AND r.ordinal = %(ordinal)s;

-- name: progress
-- A recorded part is progress: the attempts start anew.
UPDATE plan_shards SET attempts = 0 WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND attempts > 0;

-- name: left
SELECT count(*) AS recordings FROM plan_recordings WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND outcome IS NULL;

-- name: make_current
-- What the plan has of a shard becomes what readers see, in one transaction; without a shard, what it has of all that are
-- whole. Each moves once: another plan may have moved it on since. What was known already, and a text whose words were only
-- timed anew, moves only if nobody did.
WITH moving AS (
    UPDATE plan_recordings q SET moved = true FROM plan_shards s
    WHERE q.plan_id = %(plan_id)s AND s.plan_id = q.plan_id AND s.shard_id = q.shard_id AND NOT q.moved
        AND q.outcome IN ('remade', 'known')
        AND CASE WHEN %(shard_id)s::bigint IS NULL THEN s.state = 'done' ELSE q.shard_id = %(shard_id)s END
    RETURNING q.recording_id, q.transcript_id, q.outcome, q.was_id
)
UPDATE recordings r SET current_id = t.id, state = CASE t.outcome WHEN 'speech' THEN 'transcribed' ELSE 'no_speech' END,
    failure_class = NULL, failure_reason = NULL
FROM moving m JOIN transcripts t ON t.id = m.transcript_id JOIN plans p ON p.id = %(plan_id)s
WHERE r.id = m.recording_id AND r.current_id IS DISTINCT FROM t.id
    AND ((m.outcome = 'remade' AND p.stage <> 'align') OR r.current_id IS NOT DISTINCT FROM m.was_id);

-- name: seal_parts
UPDATE parts SET state = 'sealed' WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND state = 'provisional';

-- name: settle
UPDATE plan_shards SET state = 'done', owner = NULL, lease_until = NULL, changed = now()
WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND state = 'leased';

-- name: judge_again
UPDATE shards SET judged = NULL WHERE id = %(shard_id)s AND judged IS NOT NULL;

-- name: changes
-- What judging anew has changed so far, by flag.
SELECT f.key AS flag, sum((f.value ->> 'gained')::bigint)::bigint AS gained, sum((f.value ->> 'lost')::bigint)::bigint AS lost,
    sum((f.value ->> 'other')::bigint)::bigint AS other
FROM plan_shards s CROSS JOIN LATERAL jsonb_each(s.changes) f WHERE s.plan_id = %(plan_id)s GROUP BY f.key ORDER BY f.key;

-- name: fail
UPDATE plan_shards SET state = 'failed', owner = NULL, lease_until = NULL, changed = now(),
    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND state = 'leased';

-- name: out_of_reach
-- What open plans read, was let go, and comes no more: its source lists it no more, has it in another size, or it was tried
-- often enough; of days that have been listed since it was wanted. A row a shard.
SELECT DISTINCT ON (f.plan_id, f.place) f.plan_id, f.shard_id, f.epoch, f.path, f.reason, f.size, f.arrived_size, f.gone IS NOT NULL AS gone,
    i.name AS site, i.route = '{}' AS stays
FROM awaited f JOIN days d ON d.id = f.day_id JOIN sites i ON i.id = d.site_id
WHERE f.plan_state = 'open' AND f.state = 'ready' AND f.reason IS DISTINCT FROM 'to be removed'
    AND f.transfer_id IS NULL AND (i.route = '{}' OR (
        (d.look_at IS NULL OR d.look_at > clock_timestamp()) AND d.look_tries = 0 AND (f.gone < clock_timestamp() - %(again)s
            OR f.size <> f.arrived_size OR f.tries >= %(attempts)s)))
ORDER BY f.plan_id, f.place, f.path;

-- name: fail_unread
-- Only what nobody has claimed since.
UPDATE plan_shards SET state = 'failed', changed = now(), failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND state = 'ready';

-- name: give_up
-- Looked at again: a worker that was late may have renewed meanwhile.
UPDATE plan_shards SET state = 'failed', owner = NULL, lease_until = NULL, changed = now(),
    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND state = 'leased'
    AND lease_until < now() AND attempts >= max_attempts;

-- name: put_back
UPDATE plan_shards SET state = 'ready', owner = NULL, lease_until = NULL, changed = now(), ready_at = now() + %(wait)s,
    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND state = 'leased' AND attempts < max_attempts;

-- name: release
UPDATE plan_shards SET state = 'ready', owner = NULL, lease_until = NULL, changed = now(), attempts = greatest(attempts - 1, 0)
WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s AND epoch = %(epoch)s AND state = 'leased';

-- name: lock_plan
SELECT id FROM plans WHERE id = %(plan_id)s FOR NO KEY UPDATE;

-- name: any_open
SELECT EXISTS (SELECT FROM plan_shards WHERE plan_id = %(plan_id)s AND state IN ('ready', 'leased')) AS so;

-- name: count_shards
SELECT count(*) FILTER (WHERE state = 'failed') AS failed, count(*) AS shards FROM plan_shards WHERE plan_id = %(plan_id)s;

-- name: finish
UPDATE plans SET state = 'done', finished = now(), changed = now(), summary = %(summary)s
WHERE id = %(plan_id)s AND state IN ('open', 'paused');

-- name: days_of
-- In the order in which they are locked.
SELECT DISTINCT day_id FROM plan_shards WHERE plan_id = %(plan_id)s ORDER BY day_id;

-- name: stuck
-- Open plans of which nothing is left to do, and that nobody closed.
SELECT p.id FROM plans p WHERE p.state = 'open'
    AND NOT EXISTS (SELECT FROM plan_shards s WHERE s.plan_id = p.id AND s.state IN ('ready', 'leased')) ORDER BY p.id;
