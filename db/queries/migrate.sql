-- name: try_lock
-- One migrator at a time in this database; the lock dies with its session, so a killed one leaves nothing to clean.
SELECT pg_try_advisory_lock(%(key)s) AS ours;

-- name: wait
SELECT pg_sleep(0.1);

-- name: unlock
SELECT pg_advisory_unlock(%(key)s);

-- name: has_table
SELECT to_regclass('dayscribe.schema_migrations') IS NOT NULL AS there;

-- name: create_table
CREATE TABLE IF NOT EXISTS dayscribe.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied timestamptz NOT NULL DEFAULT clock_timestamp(),
    took_ms integer NOT NULL
);

-- name: add_least
-- Which older programs a step leaves working: queued workers survive an upgrade.
ALTER TABLE dayscribe.schema_migrations ADD COLUMN IF NOT EXISTS least integer;

-- name: applied
-- By way of jsonb: a ledger of the first version has no column `least` yet.
SELECT version, name, sha256, applied, took_ms, (to_jsonb(m) ->> 'least')::integer AS least
FROM dayscribe.schema_migrations m ORDER BY version;

-- name: record
INSERT INTO dayscribe.schema_migrations (version, name, sha256, took_ms, least)
VALUES (%(version)s, %(name)s, %(sha256)s, %(took_ms)s, %(least)s);

-- name: become
-- What a migration makes belongs to the owner, whoever runs it; unqualified names mean the ledger's schema.
SELECT set_config('role', %(owner)s, false), set_config('search_path', 'dayscribe, public', false);

-- name: become_self
SELECT set_config('role', 'none', false);
