-- name: begin
-- The number of a listing that was read to its end. The day's row stays locked until it is taken in.
UPDATE days SET listings = listings + 1 WHERE id = %(day_id)s RETURNING listings, revision;

-- name: put
INSERT INTO files (day_id, path, kind, slot, size, algorithm, checksum, modified, since, seen)
VALUES (%(day_id)s, %(path)s, %(kind)s, %(slot)s, %(size)s, %(algorithm)s, %(checksum)s, %(modified)s, %(number)s, %(number)s)
ON CONFLICT (day_id, path) DO UPDATE SET kind = EXCLUDED.kind, slot = EXCLUDED.slot, size = EXCLUDED.size,
    algorithm = EXCLUDED.algorithm, checksum = EXCLUDED.checksum, modified = EXCLUDED.modified, seen = EXCLUDED.seen,
    arrived_size = coalesce(files.arrived_size, CASE WHEN files.state = 'arrived' THEN EXCLUDED.size END),
    gone = NULL, state = CASE files.state WHEN 'gone' THEN CASE WHEN files.arrived IS NULL THEN 'listed' ELSE 'arrived' END ELSE files.state END;

-- name: gone
-- What is here by now stays here, whatever its source lists; but for files that are worked where they lie.
UPDATE files SET state = 'gone', gone = clock_timestamp(),
    reason = CASE WHEN arrived IS NULL THEN 'its source lists it no more' ELSE reason END
WHERE day_id = %(day_id)s AND seen < %(number)s
    AND (state IN ('listed', 'missing', 'wrong') OR (state = 'arrived' AND %(at_hand)s)) AND transfer_id IS NULL
RETURNING path, kind, arrived IS NOT NULL AS here;

-- name: gone_since
-- What was worked and let go stays that; it is only noted since when it can be had no more.
UPDATE files SET gone = clock_timestamp()
WHERE day_id = %(day_id)s AND seen < %(number)s AND state = 'removed' AND gone IS NULL AND transfer_id IS NULL;

-- name: doubles
-- One file stands for each slot and kind: the one that is worked already, else one that is here, else the last by name.
UPDATE files f SET kind = 'double' FROM (
    SELECT path, row_number() OVER (PARTITION BY slot, kind
        ORDER BY shard IS NULL, state NOT IN ('arrived', 'removed'), path DESC) AS place
    FROM files WHERE day_id = %(day_id)s AND slot IS NOT NULL AND kind <> 'double'
        AND (seen = %(number)s OR state IN ('arrived', 'removed') OR shard IS NOT NULL)
) d WHERE f.day_id = %(day_id)s AND f.path = d.path AND d.place > 1 RETURNING f.path;

-- name: grew
SELECT count(*) FILTER (WHERE since = %(number)s) AS new, count(*) FILTER (WHERE since < %(number)s) AS known,
    count(*) FILTER (WHERE seen = %(number)s) AS listed
FROM files WHERE day_id = %(day_id)s AND kind <> 'double';

-- name: changed
-- Archives that were other when they arrived; they are told of, and not silently read again.
SELECT path FROM files WHERE day_id = %(day_id)s AND kind IN ('archive', 'loose') AND state = 'arrived' AND shard IS NOT NULL
    AND size <> arrived_size ORDER BY path;

-- name: fetch_again
-- What arrived as something else than the source has now, and is not worked yet.
UPDATE files SET state = 'listed', arrived = NULL, arrived_size = NULL, verified = NULL, joined = false
WHERE day_id = %(day_id)s AND state = 'arrived' AND shard IS NULL
    AND (size <> arrived_size OR (kind <> 'loose' AND modified <> arrived_modified));

-- name: at_hand
-- The source's own folder is where it is worked: what is listed is there.
UPDATE files SET state = 'arrived', arrived = clock_timestamp(), arrived_size = size, joined = false
WHERE day_id = %(day_id)s AND seen = %(number)s AND kind <> 'double'
    AND (state <> 'arrived' OR (shard IS NULL AND arrived_size IS DISTINCT FROM size));

-- name: listed
UPDATE days SET revision = %(revision)s, staged = %(staged)s, listed = clock_timestamp(), look_tries = 0,
    empty_since = CASE WHEN %(empty)s THEN coalesce(empty_since, clock_timestamp()) END
WHERE id = %(day_id)s RETURNING extract(epoch FROM clock_timestamp() - empty_since)::float8 AS empty_for;

-- name: slots
-- The files that stand for slots.
SELECT slot, kind, state, path, size, arrived IS NOT NULL AS came FROM files
WHERE day_id = %(day_id)s AND slot IS NOT NULL AND kind <> 'double' ORDER BY slot, kind;

-- name: to_open
-- Archives and loose files that arrived and belong to no shard yet, a page at a time.
SELECT path, kind, slot, size FROM files
WHERE day_id = %(day_id)s AND state = 'arrived' AND shard IS NULL AND kind = %(kind)s ORDER BY path LIMIT %(limit)s;

-- name: unworked
-- Audio that arrived and is not worked yet, a page at a time.
SELECT f.path FROM files f LEFT JOIN shards s ON s.day_id = f.day_id AND s.name = f.shard
WHERE f.day_id = %(day_id)s AND f.kind IN ('archive', 'loose') AND f.state = 'arrived' AND f.path > %(after)s
    AND (s.id IS NULL OR s.state <> 'done') ORDER BY f.path LIMIT %(limit)s;

-- name: lost
UPDATE files SET state = 'missing', reason = 'it had arrived, and is here no more', verified = NULL
WHERE day_id = %(day_id)s AND path = ANY (%(paths)s) AND state = 'arrived';

-- name: purged
UPDATE files SET state = 'removed', reason = 'it had arrived, and is here no more', verified = NULL
WHERE day_id = %(day_id)s AND path = ANY (%(paths)s) AND state = 'arrived' AND transfer_id IS NULL;

-- name: opened
UPDATE files SET shard = %(shard)s WHERE day_id = %(day_id)s AND path = ANY (%(paths)s);

-- name: to_join
SELECT path, kind, slot, size FROM files
WHERE day_id = %(day_id)s AND state = 'arrived' AND kind IN ('metadata', 'subtitles') AND NOT joined ORDER BY path;

-- name: joined
UPDATE files SET joined = true WHERE day_id = %(day_id)s AND path = %(path)s;

-- name: gaps
-- What is known of the day's files, by kind.
SELECT kind, count(*) AS expected, count(*) FILTER (WHERE state IN ('arrived', 'removed')) AS arrived,
    count(*) FILTER (WHERE verified IS NOT NULL) AS verified, count(*) FILTER (WHERE state IN ('missing', 'wrong', 'waived', 'gone')) AS missing,
    coalesce(sum(size), 0)::bigint AS bytes, coalesce(sum(size) FILTER (WHERE state IN ('arrived', 'removed')), 0)::bigint AS arrived_bytes
FROM files WHERE day_id = %(day_id)s AND kind <> 'double' AND (state <> 'gone' OR arrived IS NULL) GROUP BY kind ORDER BY kind;

-- name: amiss
-- What should have come and did not; also what was worked, let go, and did not come again.
SELECT path, kind, slot, state, reason, tries, size FROM files
WHERE day_id = %(day_id)s AND (state IN ('missing', 'wrong', 'waived') OR (state = 'gone' AND arrived IS NULL)
    OR (state = 'removed' AND reason <> 'to be removed')) ORDER BY kind, path LIMIT %(limit)s;

-- name: look_again
UPDATE days SET look_at = clock_timestamp() + %(wait)s, look_tries = look_tries + %(failed)s, message = coalesce(%(message)s, message)
WHERE id = %(day_id)s;

-- name: look_at
SELECT look_at FROM days WHERE id = %(day_id)s;

-- name: look_later
-- By the one who found it due; whoever asked for another time since is right.
UPDATE days SET look_at = clock_timestamp() + %(wait)s WHERE id = %(day_id)s AND look_at IS NOT DISTINCT FROM %(due)s;

-- name: due
-- Days whose source is to be listed now, the oldest first, where files have to be moved. The day's row is not locked: two
-- ticks that list the same day come to the same.
SELECT d.id, d.site_id, i.name AS site, d.date, d.state, d.look_tries FROM days d JOIN sites i ON i.id = d.site_id
WHERE d.look_at <= clock_timestamp() AND d.state NOT IN ('held', 'transfer_failed') AND i.route <> '{}'
    AND i.name <> ALL (%(blocked)s)
ORDER BY (d.state <> 'pending'), d.date, i.name LIMIT %(limit)s;

-- name: pending_at_hand
SELECT i.name AS site, d.date FROM days d JOIN sites i ON i.id = d.site_id
WHERE d.state = 'pending' AND i.route = '{}' ORDER BY d.date, i.name LIMIT %(limit)s;

-- name: tries
SELECT look_tries FROM days WHERE id = %(day_id)s;

-- name: look_soon
-- Never later than it would be anyway; but for what is due now, which is being looked at.
UPDATE days SET message = coalesce(%(message)s, message), look_at = CASE WHEN look_at > clock_timestamp()
    THEN least(look_at, clock_timestamp() + %(wait)s) ELSE clock_timestamp() + %(wait)s END
WHERE id = %(day_id)s;

-- name: adopt
-- Loose files that a shard has already: programs of an earlier schema open them without a word here.
UPDATE files f SET shard = s.name FROM shards s, unnest(s.paths) AS p (path)
WHERE s.day_id = %(day_id)s AND s.loose AND f.day_id = s.day_id AND f.path = p.path AND f.shard IS NULL;
