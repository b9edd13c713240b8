-- What plans wait for, and what can be fetched of a day, have one definition each, wherever they are asked for.
-- works with: 2

CREATE VIEW awaited AS
SELECT k.plan_id, p.state AS plan_state, k.shard_id, k.place, k.state, k.epoch, f.day_id, f.path, f.size, f.arrived_size, f.transfer_id,
    f.tries, f.reason, f.gone
FROM plan_shards k JOIN plans p ON p.id = k.plan_id JOIN shards s ON s.id = k.shard_id
JOIN files f ON f.day_id = s.day_id AND f.shard = s.name
WHERE k.reads_audio AND k.state IN ('ready', 'leased') AND f.state = 'removed';
COMMENT ON VIEW awaited IS 'files that were let go and that a plan has yet to read: its shard waits until they are here again';

CREATE VIEW fetchable AS
SELECT f.day_id, f.path, f.kind, f.size, f.tries FROM files f
WHERE f.transfer_id IS NULL AND (f.state IN ('listed', 'missing', 'wrong')
    OR (f.state = 'removed' AND f.reason IS DISTINCT FROM 'to be removed' AND f.gone IS NULL
        AND f.size IS NOT DISTINCT FROM coalesce(f.arrived_size, f.size)
        AND EXISTS (SELECT FROM awaited a WHERE a.day_id = f.day_id AND a.path = f.path AND a.plan_state = 'open')));
COMMENT ON VIEW fetchable IS 'what never came, and what was let go and an open plan reads again; but not what is on its way, what its'
    ' source no longer lists, or what it has in another size than was worked';

GRANT SELECT ON awaited, fetchable TO @scheduler@, @worker@, @monitor@, @purger@;
