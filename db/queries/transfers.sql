-- name: wanted
SELECT path, size FROM fetchable WHERE day_id = %(day_id)s AND kind = ANY (%(kinds)s) AND tries < %(attempts)s
ORDER BY path LIMIT %(limit)s;

-- name: intend
-- Nothing comes back when the day has one of this kind under way.
INSERT INTO transfers (day_id, what, owner, submission_id, expected_files, expected_bytes)
VALUES (%(day_id)s, %(what)s, %(owner)s, %(submission)s, %(files)s, %(bytes)s) ON CONFLICT DO NOTHING RETURNING id;

-- name: take
UPDATE files SET transfer_id = %(id)s WHERE day_id = %(day_id)s AND path = ANY (%(paths)s);

-- name: tidy_anew
-- What comes again is let go again, and whatever of it came and is not whole.
UPDATE days SET tidied = NULL, tidy_at = NULL
WHERE id = %(day_id)s AND EXISTS (SELECT FROM files WHERE transfer_id = %(id)s AND state = 'removed');

-- name: live
-- Transfers that are not over, oldest first.
SELECT t.id, t.day_id, t.what, t.owner, t.submission_id AS submission, t.task_id AS task, t.state, t.bytes, t.files, t.message,
    t.expected_files, t.expected_bytes, t.deadline, t.created, t.polled, t.finished, i.name AS site, d.date, d.state AS day_state,
    t.deadline < clock_timestamp() - %(grace)s AS overdue,
    t.task_id IS NULL AND NOT EXISTS (
        SELECT FROM files f WHERE f.transfer_id = t.id AND (f.state <> 'removed' OR EXISTS (
            SELECT FROM awaited a WHERE a.day_id = f.day_id AND a.path = f.path AND a.plan_state IN ('open', 'paused')))
    ) AS unwanted
FROM transfers t JOIN days d ON d.id = t.day_id JOIN sites i ON i.id = d.site_id
WHERE t.finished IS NULL AND (%(id)s::bigint IS NULL OR t.id = %(id)s) ORDER BY t.polled NULLS FIRST, t.id;

-- name: latest
SELECT t.id, i.name AS site, d.date, t.what, t.state, t.owner, t.submission_id AS submission, t.task_id AS task, t.bytes, t.files,
    t.skipped, t.expected_files, t.expected_bytes, t.message, t.created, t.polled, t.finished, t.deadline, t.looks
FROM transfers t JOIN days d ON d.id = t.day_id JOIN sites i ON i.id = d.site_id
WHERE (%(site)s::text IS NULL OR i.name = %(site)s) AND (%(start)s::date IS NULL OR d.date >= %(start)s)
    AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
    AND (NOT %(only_live)s OR t.finished IS NULL)
ORDER BY t.id DESC LIMIT %(limit)s;

-- name: files_of
-- What comes again has to be what was worked: of an archive the seal says what that was.
SELECT f.path, f.kind, f.slot, f.size, s.id IS NOT NULL AS sealed,
    CASE WHEN s.id IS NULL THEN f.algorithm ELSE 'sha256' END AS algorithm,
    CASE WHEN s.id IS NULL THEN f.checksum ELSE encode(s.seal_sha256, 'hex') END AS checksum
FROM files f LEFT JOIN shards s ON f.state = 'removed' AND s.day_id = f.day_id AND s.name = f.shard AND NOT s.loose AND s.seal_size = f.size
WHERE f.transfer_id = %(id)s ORDER BY f.path;

-- name: renamed
-- Its submission was never taken: it gets another one.
UPDATE transfers SET submission_id = %(submission)s
WHERE id = %(id)s AND submission_id = %(before)s AND task_id IS NULL AND finished IS NULL;

-- name: submitted
UPDATE transfers SET task_id = %(task)s, state = 'active', message = NULL, deadline = %(deadline)s
WHERE id = %(id)s AND finished IS NULL AND (task_id IS NULL OR task_id = %(task)s);

-- name: seen
UPDATE transfers SET state = %(state)s, message = %(message)s, bytes = coalesce(%(bytes)s, bytes), files = coalesce(%(files)s, files),
    polled = clock_timestamp(), looks = looks + 1
WHERE id = %(id)s AND finished IS NULL;

-- name: close
UPDATE transfers SET state = %(state)s, message = %(message)s, bytes = coalesce(%(bytes)s, bytes), files = coalesce(%(files)s, files),
    skipped = %(skipped)s, polled = clock_timestamp(), finished = clock_timestamp()
WHERE id = %(id)s AND finished IS NULL;

-- name: arrived
UPDATE files SET state = 'arrived', arrived = clock_timestamp(), arrived_size = size, arrived_modified = modified, reason = NULL,
    transfer_id = NULL, verified = CASE WHEN %(verified)s THEN clock_timestamp() END
WHERE day_id = %(day_id)s AND path = %(path)s AND transfer_id = %(id)s;

-- name: not_arrived
-- What was worked and does not come again was worked all the same.
UPDATE files SET state = CASE state WHEN 'removed' THEN state ELSE %(state)s END, reason = %(reason)s, transfer_id = NULL,
    tries = tries + %(charge)s
WHERE day_id = %(day_id)s AND path = %(path)s AND transfer_id = %(id)s;

-- name: give_up
-- Somebody stopped what was to bring these: they are not fetched again until a person says so.
UPDATE files SET tries = greatest(tries, %(attempts)s) WHERE day_id = %(day_id)s
    AND path IN (SELECT path FROM fetchable WHERE day_id = %(day_id)s AND kind = ANY (%(kinds)s));

-- name: asked
-- It did not answer: the others have their turn before it is asked again.
UPDATE transfers SET polled = clock_timestamp() WHERE id = %(id)s AND finished IS NULL;

-- name: standing
-- How far the archives of a day are: what was listed, is here, is on its way; the most tries that one of the missing has had;
-- and how long ago the last of those vanished at the source that never came: they are missing as any other.
SELECT count(*) AS listed, count(*) FILTER (WHERE state IN ('arrived', 'removed')) AS arrived,
    count(*) FILTER (WHERE transfer_id IS NOT NULL) AS moving,
    coalesce(max(tries) FILTER (WHERE state IN ('listed', 'missing', 'wrong')), 0) AS tries,
    coalesce(extract(epoch FROM clock_timestamp() - max(gone) FILTER (WHERE state = 'gone')), 0)::float8 AS gone_for
FROM files WHERE day_id = %(day_id)s AND kind IN ('archive', 'loose')
    AND state <> 'waived' AND (state <> 'gone' OR arrived IS NULL);

-- name: waive
-- A person goes on without what did not come; the gap keeps its name.
UPDATE files SET state = 'waived' WHERE day_id = %(day_id)s AND kind IN ('archive', 'loose') AND transfer_id IS NULL
    AND (state IN ('missing', 'wrong') OR (state = 'gone' AND arrived IS NULL)) RETURNING path;

-- name: forgive
UPDATE files SET tries = 0, state = CASE state WHEN 'waived' THEN 'missing' ELSE state END
WHERE day_id = %(day_id)s AND state IN ('listed', 'missing', 'wrong', 'waived');

-- name: space
-- What staged files take up, of all sites together, and what is still to come of what is on its way.
SELECT coalesce(sum(size) FILTER (WHERE f.state = 'arrived'), 0)::bigint AS bytes, count(*) FILTER (WHERE f.state = 'arrived') AS files,
    coalesce(sum(size) FILTER (WHERE f.transfer_id IS NOT NULL), 0)::bigint AS coming_bytes,
    count(*) FILTER (WHERE f.transfer_id IS NOT NULL) AS coming_files
FROM files f JOIN days d ON d.id = f.day_id JOIN sites i ON i.id = d.site_id
WHERE i.route <> '{}' AND (f.state = 'arrived' OR f.transfer_id IS NOT NULL);

-- name: trouble
INSERT INTO troubles (site_id, owner, kind, message, retry_at)
VALUES (%(site_id)s, %(owner)s, %(kind)s, %(message)s, clock_timestamp() + %(wait)s)
ON CONFLICT (site_id, owner) DO UPDATE SET kind = EXCLUDED.kind, message = EXCLUDED.message, times = troubles.times + 1,
    retry_at = clock_timestamp() + least(%(wait)s * (2 ^ least(troubles.times, 20)), %(longest)s);

-- name: no_trouble
DELETE FROM troubles WHERE site_id = %(site_id)s AND owner = %(owner)s;

-- name: troubles
SELECT t.site_id, i.name AS site, t.owner, t.kind, t.message, t.since, t.times, t.retry_at,
    t.retry_at <= clock_timestamp() AS again
FROM troubles t JOIN sites i ON i.id = t.site_id WHERE %(owner)s::text IS NULL OR t.owner = %(owner)s ORDER BY i.name, t.owner;

-- name: forget_troubles
UPDATE troubles t SET retry_at = clock_timestamp() FROM sites i
WHERE i.id = t.site_id AND i.source = %(source)s AND t.owner = %(owner)s;

-- name: to_tidy
-- Finished days whose audio was staged long ago, the oldest first; where files are at hand nothing is ours to let go.
SELECT d.id, i.name AS site, d.date, i.route <> '{}' AS moved FROM days d JOIN sites i ON i.id = d.site_id
WHERE d.tidied IS NULL AND d.finished < clock_timestamp() - %(keep)s
    AND (d.tidy_at IS NULL OR d.tidy_at <= clock_timestamp())
    AND d.state IN ('completed', 'completed_with_errors')
    AND NOT EXISTS (SELECT FROM deliveries v WHERE v.day_id = d.id AND v.audio AND v.state IN ('wanted', 'sending'))
ORDER BY d.finished LIMIT %(limit)s;

-- name: let_go
-- Law 3: only of a sealed shard, all of whose recordings are accounted for, and none of which people still have to judge, or
-- a plan to make again.
-- What was marked is gone, and is removed whatever is wanted since (a plan has it fetched again); so is what came again and
-- was not whole. What is on its way is looked at when it is here.
UPDATE files f SET state = 'removed', reason = 'to be removed' FROM days d, shards s
WHERE d.id = %(day_id)s AND d.state IN ('completed', 'completed_with_errors') AND f.day_id = d.id AND s.day_id = d.id
    AND s.name = f.shard AND s.state = 'done' AND s.sealed IS NOT NULL AND f.kind IN ('archive', 'loose')
    AND f.state IN ('arrived', 'removed') AND (f.state = 'arrived' OR f.reason IS NOT NULL) AND f.transfer_id IS NULL
    AND NOT EXISTS (SELECT FROM recordings r WHERE r.shard_id = s.id AND r.state = 'provisional')
    AND (SELECT count(*) FROM recordings r WHERE r.shard_id = s.id) = s.seal_recordings
    AND NOT EXISTS (
        SELECT FROM samples m JOIN sample_recordings x ON x.sample_id = m.id JOIN recordings r ON r.id = x.recording_id
        WHERE m.released IS NULL AND r.shard_id = s.id)
    AND (f.reason IS NOT DISTINCT FROM 'to be removed' OR NOT EXISTS (SELECT FROM plan_shards k JOIN plans p ON p.id = k.plan_id
        WHERE k.shard_id = s.id AND k.reads_audio AND k.state IN ('ready', 'leased') AND p.state IN ('open', 'paused')))
RETURNING f.path;

-- name: wanted_again
-- An open plan reads what was let go: the day is listed now, and what its source still has is fetched.
UPDATE days d SET look_at = clock_timestamp() FROM sites i
WHERE d.id = ANY (%(days)s) AND i.id = d.site_id AND i.route <> '{}' AND EXISTS (
    SELECT FROM awaited a WHERE a.day_id = d.id AND a.plan_state = 'open');

-- name: tried_anew
-- Whatever hindered it earlier.
UPDATE files f SET tries = 0 FROM awaited a
WHERE a.plan_id = %(plan_id)s AND a.state = 'ready' AND f.day_id = a.day_id AND f.path = a.path AND f.tries > 0;

-- name: vanished
-- What open plans read of the day and its source no longer lists, and for how long the last of it.
SELECT count(DISTINCT path) AS files, coalesce(extract(epoch FROM clock_timestamp() - max(gone)), 0)::float8 AS gone_for
FROM awaited WHERE day_id = %(day_id)s AND plan_state = 'open' AND gone IS NOT NULL AND transfer_id IS NULL;

-- name: marked
-- Held until they are noted: whoever was late finds nothing marked any more, and removes nothing that came meanwhile.
SELECT path FROM files WHERE day_id = %(day_id)s AND path = ANY (%(paths)s) AND state = 'removed' AND reason = 'to be removed'
ORDER BY path FOR UPDATE;

-- name: gone_now
UPDATE files SET reason = NULL WHERE day_id = %(day_id)s AND path = ANY (%(paths)s) AND state = 'removed';

-- name: tidy_later
UPDATE days SET tidy_at = clock_timestamp() + %(wait)s WHERE id = %(day_id)s;

-- name: tidied
-- What is kept for a sample or a plan is looked at again a day later.
UPDATE days d SET tidied = CASE WHEN kept.so THEN NULL ELSE clock_timestamp() END,
    tidy_at = CASE WHEN kept.so THEN clock_timestamp() + interval '1 day' ELSE d.tidy_at END
FROM (
    SELECT i.route <> '{}' AND (EXISTS (
        SELECT FROM samples m JOIN sample_recordings x ON x.sample_id = m.id JOIN recordings r ON r.id = x.recording_id
        WHERE m.released IS NULL AND r.day_id = o.id)
        OR EXISTS (SELECT FROM plan_shards k JOIN plans p ON p.id = k.plan_id
            WHERE k.day_id = o.id AND k.reads_audio AND k.state IN ('ready', 'leased') AND p.state IN ('open', 'paused'))
        OR EXISTS (SELECT FROM files f WHERE f.day_id = o.id AND f.state = 'removed' AND f.transfer_id IS NOT NULL)) AS so
    FROM days o JOIN sites i ON i.id = o.site_id WHERE o.id = %(day_id)s
) kept
WHERE d.id = %(day_id)s;

-- name: left
-- What could be fetched now, as `wanted` has it: how many files, and how often the unluckiest of them was tried.
SELECT count(*) AS files, coalesce(max(tries), 0) AS tries FROM fetchable
WHERE day_id = %(day_id)s AND kind = ANY (%(kinds)s) AND tries < %(attempts)s;
