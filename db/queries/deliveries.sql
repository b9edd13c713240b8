-- name: want
-- What was asked for last counts; a delivery that somebody is sending just now goes on, and is done once more after it.
INSERT INTO deliveries AS d (day_id, target, parts, audio, partial, again, owner, by_job)
VALUES (%(day_id)s, %(target)s, %(parts)s, %(audio)s, %(partial)s, %(again)s, %(owner)s, true)
ON CONFLICT (day_id, target) DO UPDATE SET state = 'wanted', parts = EXCLUDED.parts, audio = EXCLUDED.audio,
    partial = EXCLUDED.partial, again = EXCLUDED.again, owner = EXCLUDED.owner, by_job = true, message = NULL, changed = now()
RETURNING id;

-- name: get
SELECT v.*, d.date, s.name AS site FROM deliveries v JOIN days d ON d.id = v.day_id JOIN sites s ON s.id = d.site_id
WHERE v.day_id = %(day_id)s AND v.target = %(target)s;

-- name: latest
SELECT v.*, d.date, s.name AS site FROM deliveries v JOIN days d ON d.id = v.day_id JOIN sites s ON s.id = d.site_id
WHERE (%(site)s::text IS NULL OR s.name = %(site)s) AND (%(day_id)s::bigint IS NULL OR v.day_id = %(day_id)s)
ORDER BY v.changed DESC, v.id DESC LIMIT %(limit)s;

-- name: of_days
-- What there is to any target of the days of a selection.
SELECT v.*, d.date, s.name AS site FROM deliveries v JOIN days d ON d.id = v.day_id JOIN sites s ON s.id = d.site_id
WHERE (%(site)s::text IS NULL OR s.name = %(site)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
ORDER BY d.date, s.name, v.id;

-- name: never
SELECT count(*) AS days FROM days d JOIN sites s ON s.id = d.site_id
WHERE (%(site)s::text IS NULL OR s.name = %(site)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
    AND NOT EXISTS (SELECT FROM deliveries v WHERE v.day_id = d.id);

-- name: due
-- What a job has to do for this user: all that is wanted, and what another job began and has not touched for a while, be
-- it that a mover has it or that the job was ended.
SELECT v.*, d.date, s.name AS site FROM deliveries v JOIN days d ON d.id = v.day_id JOIN sites s ON s.id = d.site_id
WHERE v.owner = %(owner)s AND (v.state = 'wanted'
    OR (v.state = 'sending' AND v.by_job AND coalesce(v.polled, v.changed) <= clock_timestamp() - %(rest)s))
ORDER BY d.date, v.id LIMIT %(limit)s;

-- name: begin
-- The row, made if need be; the attempt is raised, so that whoever sends it now, sends it alone as far as the ledger goes.
INSERT INTO deliveries AS d (day_id, target, state, parts, audio, partial, owner, by_job, attempt, revision, stamp)
VALUES (%(day_id)s, %(target)s, 'sending', %(parts)s, %(audio)s, %(partial)s, %(owner)s, %(by_job)s, 1,
    %(revision)s, %(stamp)s)
ON CONFLICT (day_id, target) DO UPDATE SET state = 'sending', parts = EXCLUDED.parts, audio = EXCLUDED.audio,
    partial = EXCLUDED.partial, owner = EXCLUDED.owner, by_job = EXCLUDED.by_job, attempt = d.attempt + 1, revision = EXCLUDED.revision,
    stamp = EXCLUDED.stamp, sent_parts = d.sent_parts AND d.stamp = EXCLUDED.stamp,
    sent_audio = d.sent_audio AND d.stamp = EXCLUDED.stamp, message = NULL, changed = now(), polled = NULL,
    step = CASE WHEN d.state = 'sending' AND d.stamp = EXCLUDED.stamp THEN d.step END,
    submission_id = CASE WHEN d.state = 'sending' AND d.stamp = EXCLUDED.stamp THEN d.submission_id END,
    task_id = CASE WHEN d.state = 'sending' AND d.stamp = EXCLUDED.stamp THEN d.task_id END
RETURNING id, attempt;

-- name: noted
-- What a mover was asked, and what it answered.
UPDATE deliveries SET step = %(step)s, submission_id = %(submission)s, task_id = %(task)s, polled = NULL, changed = now()
WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'sending';

-- name: polled
UPDATE deliveries SET polled = clock_timestamp() WHERE id = %(id)s AND attempt = %(attempt)s;

-- name: put_back
-- A job was stopped: the next one takes it on.
UPDATE deliveries SET state = 'wanted', changed = now() WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'sending' AND by_job;

-- name: verified
UPDATE deliveries SET state = 'verified', verified = now(), changed = now(), sent_parts = parts, sent_audio = audio,
    again = false, files = %(files)s, bytes = %(bytes)s, message = %(message)s, step = NULL, submission_id = NULL, task_id = NULL
WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'sending';

-- name: failed
-- Who was waiting for a mover waits on: only what has ended for good is a failure.
UPDATE deliveries SET state = 'failed', message = %(message)s, changed = now(), step = NULL, submission_id = NULL, task_id = NULL
WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'sending';

-- name: refused
-- It could not even begin.
UPDATE deliveries SET state = 'failed', message = %(message)s, changed = now() WHERE id = %(id)s AND state = 'wanted';

-- name: neighbours
-- Other sites' days whose audio went to the same places of the same target.
SELECT DISTINCT s.name FROM deliveries v JOIN days d ON d.id = v.day_id JOIN sites s ON s.id = d.site_id
JOIN days o ON o.id = %(day_id)s
WHERE v.target = %(target)s AND d.date = o.date AND d.site_id <> o.site_id AND (v.audio OR v.sent_audio);

-- name: stamp
-- Whatever changes what a delivery of the day holds.
SELECT d.revision, d.state, extract(epoch FROM d.finished)::text AS finished,
    (SELECT coalesce(sum(r.current_id), 0)::text FROM recordings r WHERE r.day_id = d.id) AS current,
    (SELECT coalesce(sum(hashtextextended(f::text, 0)), 0)::text FROM flags f WHERE f.day_id = d.id) AS flags,
    (SELECT count(*) FROM shards s WHERE s.day_id = d.id AND s.judged > 0) AS judged,
    (SELECT coalesce(sum(hashtextextended(m::text, 0)), 0)::text FROM metadata m WHERE m.day_id = d.id) AS metadata,
    (SELECT count(*) FROM slots l WHERE l.day_id = d.id AND l.kind = 'metadata' AND l.finding = 'arrived') AS companions,
    (SELECT coalesce(max(p.id), 0) FROM parts p JOIN shards s ON s.id = p.shard_id
        WHERE s.day_id = d.id AND p.state = 'sealed') AS part
FROM days d WHERE d.id = %(day_id)s;

-- name: parts
SELECT p.name, p.sha256, p.size, p.plan_id FROM parts p JOIN shards s ON s.id = p.shard_id
WHERE s.day_id = %(day_id)s AND p.state = 'sealed' ORDER BY p.name;

-- name: shards
-- What was read to its end.
SELECT id, name, slot, loose, paths FROM shards WHERE day_id = %(day_id)s AND state = 'done' ORDER BY slot NULLS LAST, id;

-- name: recordings
-- Of these shards, in the order in which they are read.
SELECT shard_id, ordinal, meta_id, sha256, state, failure_class, failure_reason, coalesce(seconds, 0)::float8 AS seconds
FROM recordings WHERE shard_id = ANY (%(shards)s) AND state <> 'provisional' ORDER BY shard_id, ordinal;
