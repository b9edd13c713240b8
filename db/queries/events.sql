-- name: add
INSERT INTO events (day_id, shard_id, actor, what, detail) VALUES (%(day_id)s, %(shard_id)s, %(actor)s, %(what)s, %(detail)s);

-- name: of_day
SELECT at, actor, what, detail, shard_id FROM events WHERE day_id = %(day_id)s ORDER BY id DESC LIMIT %(limit)s;
