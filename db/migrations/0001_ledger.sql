-- The ledger: sites, days, slots, shards, recordings, runs, transcripts, parts, transfers, jobs, events, metadata.
-- Plain SQL for PostgreSQL 15 to 18, no extension. @role@ is replaced by the role's quoted name; the rest is as it stands.

CREATE TABLE sites (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    source text NOT NULL DEFAULT 'local',
    location text NOT NULL CHECK (location <> ''),
    time_zone text NOT NULL DEFAULT 'UTC',
    slot_minutes integer CHECK (slot_minutes BETWEEN 1 AND 1440),
    created timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN sites.slot_minutes IS 'the grid of the day; NULL: the site has none (loose files)';

CREATE TABLE days (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES sites,
    date date NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN (
        'pending', 'transferring', 'transfer_failed', 'ready_to_process', 'processing', 'processing_failed',
        'completed', 'completed_with_errors', 'held')),
    held_from text CHECK (held_from IN (
        'pending', 'transferring', 'transfer_failed', 'ready_to_process', 'processing', 'processing_failed',
        'completed', 'completed_with_errors')),
    revision integer NOT NULL DEFAULT 0,
    staged text,
    message text,
    summary jsonb,
    created timestamptz NOT NULL DEFAULT now(),
    changed timestamptz NOT NULL DEFAULT now(),
    started timestamptz,
    finished timestamptz,
    UNIQUE (site_id, date),
    CONSTRAINT held_remembers_where_from CHECK ((state = 'held') = (held_from IS NOT NULL)),
    CONSTRAINT finished_has_its_summary CHECK (
        state NOT IN ('completed', 'completed_with_errors') OR (finished IS NOT NULL AND summary IS NOT NULL))
);
CREATE INDEX days_by_state ON days (state, date);
COMMENT ON COLUMN days.staged IS 'the folder on this cluster that holds the day''s files';

CREATE TABLE slots (
    day_id bigint NOT NULL REFERENCES days,
    slot text NOT NULL CHECK (slot ~ '^[0-9]{2}_[0-9]{2}$'),
    kind text NOT NULL CHECK (kind IN ('archive', 'metadata', 'subtitles', 'comments')),
    finding text NOT NULL CHECK (finding IN (
        'expected', 'listed', 'arrived', 'absent_at_source', 'listed_but_missing', 'empty')),
    name text,
    size bigint CHECK (size >= 0),
    sha256 bytea CHECK (length(sha256) = 32),
    revision integer NOT NULL,
    changed timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day_id, slot, kind)
);

CREATE TABLE shards (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day_id bigint NOT NULL REFERENCES days,
    name text NOT NULL,
    slot text CHECK (slot ~ '^[0-9]{2}_[0-9]{2}$'),
    loose boolean NOT NULL DEFAULT false,
    paths bytea[] NOT NULL CHECK (cardinality(paths) > 0),
    size bigint NOT NULL CHECK (size >= 0),
    revision integer NOT NULL,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'done', 'failed')),
    epoch bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 5 CHECK (max_attempts > 0),
    owner text,
    lease_until timestamptz,
    ready_at timestamptz NOT NULL DEFAULT now(),
    failure_class text,
    failure_reason text,
    sealed timestamptz,
    seal_sha256 bytea CHECK (length(seal_sha256) = 32),
    seal_size bigint,
    seal_recordings integer,
    discarded_epoch bigint NOT NULL DEFAULT 0,
    changed timestamptz NOT NULL DEFAULT now(),
    UNIQUE (day_id, name),
    CONSTRAINT leased_has_an_owner CHECK ((state = 'leased') = (owner IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT done_is_sealed CHECK (state <> 'done' OR sealed IS NOT NULL),
    CONSTRAINT failed_says_why CHECK (state <> 'failed' OR (failure_class IS NOT NULL AND failure_reason IS NOT NULL)),
    CONSTRAINT seal_is_whole CHECK (
        (sealed IS NULL) = (seal_sha256 IS NULL) AND (sealed IS NULL) = (seal_recordings IS NULL))
);
COMMENT ON COLUMN shards.attempts IS 'claims since the last recorded part: a shard that makes progress is never given up';
COMMENT ON COLUMN shards.discarded_epoch IS 'what was read up to this epoch came of a damaged archive: it is taken no more';
CREATE INDEX shards_by_day ON shards (day_id, state);
CREATE INDEX shards_ready ON shards (ready_at, id) WHERE state = 'ready';
CREATE INDEX shards_leased ON shards (lease_until) WHERE state = 'leased';

CREATE TABLE runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL CHECK (length(key) = 16),
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    receipt jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN runs.key IS 'digest of what changes the output';
COMMENT ON COLUMN runs.digest IS 'sha256 of the whole receipt: one row for each receipt';
CREATE INDEX runs_by_key ON runs (key);

CREATE TABLE parts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    shard_id bigint NOT NULL REFERENCES shards,
    epoch bigint NOT NULL,
    run_id bigint NOT NULL REFERENCES runs,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    size bigint NOT NULL,
    recordings integer NOT NULL,
    state text NOT NULL DEFAULT 'provisional' CHECK (state IN ('provisional', 'sealed', 'discarded')),
    engine_seconds real,
    recorded timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX parts_by_shard ON parts (shard_id);

CREATE TABLE recordings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard_id bigint NOT NULL REFERENCES shards,
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    day_id bigint NOT NULL REFERENCES days,
    meta_id text NOT NULL,
    name bytea NOT NULL,
    size bigint NOT NULL,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    state text NOT NULL DEFAULT 'provisional' CHECK (state IN ('provisional', 'transcribed', 'no_speech', 'quarantined')),
    seconds real,
    flags text[] NOT NULL DEFAULT '{}',
    failure_class text,
    failure_reason text,
    part_id bigint NOT NULL REFERENCES parts,
    current_id bigint,
    UNIQUE (shard_id, ordinal),
    CONSTRAINT failure_says_why CHECK ((failure_class IS NULL) = (failure_reason IS NULL)),
    CONSTRAINT quarantine_is_a_failure CHECK (state <> 'quarantined' OR (failure_class IS NOT NULL AND current_id IS NULL)),
    CONSTRAINT success_is_a_transcript CHECK (
        state NOT IN ('transcribed', 'no_speech') OR (failure_class IS NULL AND current_id IS NOT NULL)),
    CONSTRAINT provisional_is_not_current CHECK (state <> 'provisional' OR current_id IS NULL)
);
CREATE INDEX recordings_by_day ON recordings (day_id, state);
CREATE INDEX recordings_of_day ON recordings (day_id, id);
CREATE INDEX recordings_by_meta_id ON recordings (meta_id);

-- The text search configuration of a language code. PostgreSQL forbids regconfig columns across upgrades, so the code is
-- what is stored. Languages without a dictionary of their own are searched word by word ('simple').
CREATE FUNCTION text_config(language text) RETURNS regconfig LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE language
        WHEN 'ar' THEN 'pg_catalog.arabic' WHEN 'hy' THEN 'pg_catalog.armenian' WHEN 'eu' THEN 'pg_catalog.basque'
        WHEN 'ca' THEN 'pg_catalog.catalan' WHEN 'da' THEN 'pg_catalog.danish' WHEN 'nl' THEN 'pg_catalog.dutch'
        WHEN 'en' THEN 'pg_catalog.english' WHEN 'fi' THEN 'pg_catalog.finnish' WHEN 'fr' THEN 'pg_catalog.french'
        WHEN 'de' THEN 'pg_catalog.german' WHEN 'el' THEN 'pg_catalog.greek' WHEN 'hi' THEN 'pg_catalog.hindi'
        WHEN 'hu' THEN 'pg_catalog.hungarian' WHEN 'id' THEN 'pg_catalog.indonesian' WHEN 'ga' THEN 'pg_catalog.irish'
        WHEN 'it' THEN 'pg_catalog.italian' WHEN 'lt' THEN 'pg_catalog.lithuanian' WHEN 'ne' THEN 'pg_catalog.nepali'
        WHEN 'no' THEN 'pg_catalog.norwegian' WHEN 'nn' THEN 'pg_catalog.norwegian'
        WHEN 'pt' THEN 'pg_catalog.portuguese' WHEN 'ro' THEN 'pg_catalog.romanian'
        WHEN 'ru' THEN 'pg_catalog.russian' WHEN 'sr' THEN 'pg_catalog.serbian' WHEN 'es' THEN 'pg_catalog.spanish'
        WHEN 'sv' THEN 'pg_catalog.swedish' WHEN 'ta' THEN 'pg_catalog.tamil' WHEN 'tr' THEN 'pg_catalog.turkish'
        WHEN 'yi' THEN 'pg_catalog.yiddish' ELSE 'pg_catalog.simple' END::regconfig
$$;

CREATE TABLE transcripts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recording_id bigint NOT NULL REFERENCES recordings,
    run_id bigint NOT NULL REFERENCES runs,
    run_key bytea NOT NULL CHECK (length(run_key) = 16),
    version integer NOT NULL CHECK (version > 0),
    outcome text NOT NULL CHECK (outcome IN ('speech', 'no_speech')),
    language text CHECK (language ~ '^[a-z]{2,3}$'),
    language_probability real,
    text text NOT NULL,
    words bytea NOT NULL,
    word_count integer NOT NULL,
    flags text[] NOT NULL DEFAULT '{}',
    part_id bigint NOT NULL REFERENCES parts,
    created timestamptz NOT NULL DEFAULT now(),
    search tsvector GENERATED ALWAYS AS (to_tsvector(dayscribe.text_config(language), text)) STORED,
    UNIQUE (recording_id, run_key),
    UNIQUE (recording_id, version),
    CONSTRAINT empty_text_means_no_speech CHECK ((outcome = 'no_speech') = (text = ''))
);
COMMENT ON COLUMN transcripts.words IS 'segments with their words as one compressed value; db/formats.py packs and unpacks it';
CREATE INDEX transcripts_search ON transcripts USING gin (search);
ALTER TABLE recordings ADD FOREIGN KEY (current_id) REFERENCES transcripts;

CREATE TABLE metadata (
    day_id bigint NOT NULL REFERENCES days,
    meta_id text NOT NULL,
    posted timestamptz,
    description text,
    location_created text,
    text_language text,
    author_id text,
    author_name text,
    author_nickname text,
    author_verified boolean,
    digg_count bigint,
    share_count bigint,
    comment_count bigint,
    play_count bigint,
    collect_count bigint,
    music_id text,
    music_title text,
    music_author text,
    video_seconds real,
    subtitle_language text,
    collected timestamptz,
    country text,
    PRIMARY KEY (day_id, meta_id)
);

CREATE TABLE transfers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day_id bigint NOT NULL REFERENCES days,
    submission_id uuid NOT NULL UNIQUE,
    task_id uuid UNIQUE,
    state text NOT NULL DEFAULT 'intent' CHECK (state IN (
        'intent', 'active', 'paused', 'needs_login', 'succeeded', 'failed', 'cancelled')),
    bytes bigint,
    files integer,
    skipped integer,
    message text,
    created timestamptz NOT NULL DEFAULT now(),
    polled timestamptz,
    finished timestamptz
);
CREATE INDEX transfers_by_day ON transfers (day_id);

CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token text NOT NULL UNIQUE,
    day_id bigint REFERENCES days,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'intent' CHECK (state IN (
        'intent', 'submitted', 'running', 'succeeded', 'failed', 'blocked', 'unknown')),
    scheduler_id text,
    array_size integer,
    scheduler_says text,
    exit_record jsonb,
    message text,
    created timestamptz NOT NULL DEFAULT now(),
    seen timestamptz,
    finished timestamptz
);
CREATE INDEX jobs_open ON jobs (day_id) WHERE state IN ('intent', 'submitted', 'running', 'blocked', 'unknown');

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    day_id bigint REFERENCES days,
    shard_id bigint REFERENCES shards,
    actor text NOT NULL,
    what text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_by_day ON events (day_id, id);

CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();

-- A failed seal discards what was provisional. The worker has no right to delete results; this is the one door, and it
-- opens only for an unsealed shard under the epoch that is failing it.
CREATE FUNCTION discard_provisional(the_shard bigint, the_epoch bigint) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = dayscribe, pg_temp AS $$
DECLARE gone integer;
BEGIN
    PERFORM 1 FROM shards WHERE id = the_shard AND epoch = the_epoch AND sealed IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    DELETE FROM transcripts t USING recordings r WHERE t.recording_id = r.id AND r.shard_id = the_shard;
    DELETE FROM recordings WHERE shard_id = the_shard;
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE parts SET state = 'discarded' WHERE shard_id = the_shard AND state = 'provisional';
    UPDATE shards SET discarded_epoch = the_epoch WHERE id = the_shard;
    RETURN gone;
END $$;
REVOKE ALL ON FUNCTION discard_provisional(bigint, bigint) FROM PUBLIC;

GRANT SELECT ON ALL TABLES IN SCHEMA dayscribe TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT ON sites, days, slots, shards, transfers, jobs, events, metadata TO @scheduler@;
GRANT UPDATE ON sites, days, slots, shards, transfers, jobs, metadata TO @scheduler@;
GRANT INSERT ON runs, parts, recordings, transcripts, events, metadata TO @worker@;
GRANT UPDATE (state, epoch, attempts, owner, lease_until, ready_at, failure_class, failure_reason, sealed, seal_sha256,
    seal_size, seal_recordings, changed) ON shards TO @worker@;
GRANT UPDATE (state, summary, changed, started, finished, message) ON days TO @worker@;
GRANT UPDATE (state, current_id) ON recordings TO @worker@;
GRANT UPDATE (state) ON parts TO @worker@;
GRANT UPDATE ON metadata TO @worker@;
GRANT EXECUTE ON FUNCTION discard_provisional(bigint, bigint) TO @worker@;
GRANT INSERT ON events TO @purger@;
GRANT UPDATE, DELETE ON recordings, transcripts, parts, metadata TO @purger@;
