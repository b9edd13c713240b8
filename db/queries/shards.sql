-- name: add
-- Register what a listing shows; a shard that is there already stays as it is.
INSERT INTO shards (day_id, name, slot, loose, paths, size, revision, max_attempts)
VALUES (%(day_id)s, %(name)s, %(slot)s, %(loose)s, %(paths)s, %(size)s, %(revision)s, %(max_attempts)s)
ON CONFLICT (day_id, name) DO NOTHING;

-- name: of_day
SELECT id, name, slot, loose, paths, size, state, epoch, attempts, owner, lease_until, failure_class, failure_reason,
    sealed, seal_recordings FROM shards WHERE day_id = %(day_id)s ORDER BY id;

-- name: identity
SELECT i.name AS site, d.date, s.name FROM shards s JOIN days d ON d.id = s.day_id JOIN sites i ON i.id = d.site_id
WHERE s.id = %(id)s;

-- name: claim
-- Fresh shards and those whose lease has lapsed, oldest day first; every claim raises the epoch. Two SELECTs, because
-- PostgreSQL allows no row lock under UNION.
WITH fresh AS (
    SELECT s.id, d.date FROM shards s JOIN days d ON d.id = s.day_id
    WHERE s.state = 'ready' AND s.ready_at <= now() AND d.state IN ('ready_to_process', 'processing')
        AND (%(day_id)s::bigint IS NULL OR d.id = %(day_id)s)
    ORDER BY d.date, s.id LIMIT %(count)s FOR UPDATE OF s SKIP LOCKED
), lapsed AS (
    SELECT s.id, d.date FROM shards s JOIN days d ON d.id = s.day_id
    WHERE s.state = 'leased' AND s.lease_until < now() AND s.attempts < s.max_attempts
        AND d.state IN ('ready_to_process', 'processing') AND (%(day_id)s::bigint IS NULL OR d.id = %(day_id)s)
    ORDER BY d.date, s.id LIMIT %(count)s FOR UPDATE OF s SKIP LOCKED
), chosen AS (
    SELECT id FROM (SELECT * FROM lapsed UNION ALL SELECT * FROM fresh) u ORDER BY date, id LIMIT %(count)s
)
UPDATE shards s SET state = 'leased', owner = %(owner)s, epoch = s.epoch + 1, attempts = s.attempts + 1,
    lease_until = clock_timestamp() + %(lease)s, changed = now(), failure_class = NULL, failure_reason = NULL
FROM chosen, days d, sites i WHERE s.id = chosen.id AND d.id = s.day_id AND i.id = d.site_id
RETURNING s.id, s.day_id, s.name, s.slot, s.loose, s.paths, s.size, s.epoch, d.staged, d.date, d.state AS day_state, i.name AS site;

-- name: waits
-- Whether a claim would find something to do, giving up included. Two EXISTS, for an index each.
SELECT EXISTS (
    SELECT FROM shards s JOIN days d ON d.id = s.day_id
    WHERE s.state = 'ready' AND s.ready_at <= now() AND d.state IN ('ready_to_process', 'processing')
        AND (%(day_id)s::bigint IS NULL OR d.id = %(day_id)s)
) OR EXISTS (
    SELECT FROM shards s JOIN days d ON d.id = s.day_id
    WHERE s.state = 'leased' AND s.lease_until < now() AND (s.attempts >= s.max_attempts
        OR d.state IN ('ready_to_process', 'processing') AND (%(day_id)s::bigint IS NULL OR d.id = %(day_id)s))
) AS so;

-- name: exhausted
-- Shards whose last allowed worker vanished: a poison shard ends here instead of killing workers for ever.
SELECT id, day_id, epoch FROM shards WHERE state = 'leased' AND lease_until < now() AND attempts >= max_attempts;

-- name: renew
UPDATE shards s SET lease_until = clock_timestamp() + %(lease)s
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[]) AS held (id, epoch)
WHERE s.id = held.id AND s.epoch = held.epoch AND s.state = 'leased' RETURNING s.id;

-- name: renew_owned
UPDATE shards SET lease_until = clock_timestamp() + %(lease)s WHERE state = 'leased' AND owner = %(owner)s;

-- name: owned
SELECT id, epoch FROM shards WHERE state = 'leased' AND owner = %(owner)s ORDER BY id;

-- name: next_lapse
-- Seconds until the next claimable moment of a day: a lease that lapses or a shard that waits for its retry.
SELECT count(*) AS open, greatest(0, extract(epoch FROM min(CASE state WHEN 'leased' THEN lease_until ELSE ready_at END)
    - clock_timestamp()))::float8 AS seconds
FROM shards WHERE state IN ('ready', 'leased') AND (%(day_id)s::bigint IS NULL OR day_id = %(day_id)s);

-- name: known
-- Recordings whose outcome is recorded, provisional ones too: never made again.
SELECT ordinal, sha256 FROM recordings WHERE shard_id = %(id)s;

-- name: count_known
SELECT count(*) AS recordings, coalesce(max(ordinal), -1) AS last,
    sha256(coalesce(string_agg(sha256, ''::bytea ORDER BY ordinal), ''::bytea)) AS contents
FROM recordings WHERE shard_id = %(id)s;

-- name: seal
UPDATE shards SET sealed = now(), seal_sha256 = %(sha256)s, seal_size = %(size)s, seal_recordings = %(recordings)s, changed = now()
WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' AND sealed IS NULL;

-- name: make_current
-- The seal makes the shard's provisional results current, in the same transaction.
UPDATE recordings r SET
    state = CASE WHEN t.id IS NULL THEN 'quarantined' WHEN t.outcome = 'speech' THEN 'transcribed' ELSE 'no_speech' END,
    current_id = t.id
FROM recordings q LEFT JOIN transcripts t ON t.recording_id = q.id
WHERE r.id = q.id AND q.shard_id = %(id)s AND q.state = 'provisional';

-- name: seal_parts
UPDATE parts SET state = 'sealed' WHERE shard_id = %(id)s AND state = 'provisional';

-- name: settle
UPDATE shards SET state = 'done', owner = NULL, lease_until = NULL, changed = now()
WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' AND sealed IS NOT NULL;

-- name: fail
UPDATE shards SET state = 'failed', owner = NULL, lease_until = NULL, changed = now(),
    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased';

-- name: give_up
-- Looked at again under the day's lock: its worker may have come back and recorded something since.
UPDATE shards SET state = 'failed', owner = NULL, lease_until = NULL, changed = now(),
    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' AND lease_until < now() AND attempts >= max_attempts;

-- name: discard
SELECT discard_provisional(%(id)s, %(epoch)s) AS gone;

-- name: put_back
-- A failure that may pass: the shard waits and is tried again, until its attempts are used up.
UPDATE shards SET state = 'ready', owner = NULL, lease_until = NULL, changed = now(), ready_at = now() + %(wait)s,
    failure_class = %(failure_class)s, failure_reason = %(failure_reason)s
WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased' AND attempts < max_attempts;

-- name: release
-- Given back in good order (a stop on request): not an attempt.
UPDATE shards SET state = 'ready', owner = NULL, lease_until = NULL, changed = now(), ready_at = now(),
    attempts = greatest(attempts - 1, 0)
WHERE id = %(id)s AND epoch = %(epoch)s AND state = 'leased';

-- name: progress
-- A recorded part is progress: the attempts start anew.
UPDATE shards SET attempts = 0 WHERE id = %(id)s AND epoch = %(epoch)s AND attempts > 0;

-- name: retry
UPDATE shards SET state = 'ready', attempts = 0, ready_at = now(), failure_class = NULL, failure_reason = NULL, changed = now()
WHERE day_id = %(day_id)s AND state = 'failed';
