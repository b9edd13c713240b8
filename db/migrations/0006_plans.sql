-- Reprocessing: plans of what is made again, flags with their numbers, captions, samples for people, frozen snapshots.
-- works with: 2

CREATE TABLE plans (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL DEFAULT 'drawn' CHECK (state IN ('drawn', 'open', 'paused', 'done', 'cancelled')),
    selection jsonb NOT NULL,
    who text NOT NULL,
    why text NOT NULL DEFAULT '',
    run_key bytea NOT NULL CHECK (length(run_key) = 16),
    receipt jsonb NOT NULL,
    forced boolean NOT NULL DEFAULT false,
    keep_current boolean NOT NULL DEFAULT false,
    recordings integer NOT NULL CHECK (recordings >= 0),
    seconds double precision NOT NULL,
    estimate jsonb NOT NULL DEFAULT '{}',
    summary jsonb,
    created timestamptz NOT NULL DEFAULT now(),
    changed timestamptz NOT NULL DEFAULT now(),
    started timestamptz,
    finished timestamptz,
    CONSTRAINT force_says_why CHECK (NOT forced OR why <> ''),
    CONSTRAINT done_has_its_summary CHECK (state <> 'done' OR (summary IS NOT NULL AND finished IS NOT NULL))
);
COMMENT ON TABLE plans IS 'stored selections of recordings to make again; the recordings are in plan_recordings, and never change';
COMMENT ON COLUMN plans.run_key IS 'the key of what the plan makes; whoever runs it under other settings is refused';
COMMENT ON COLUMN plans.keep_current IS 'what it makes is kept beside what readers see';
CREATE INDEX plans_open ON plans (id) WHERE state IN ('open', 'paused');

CREATE TABLE plan_shards (
    plan_id bigint NOT NULL REFERENCES plans,
    shard_id bigint NOT NULL REFERENCES shards,
    day_id bigint NOT NULL REFERENCES days,
    place integer NOT NULL,
    recordings integer NOT NULL CHECK (recordings > 0),
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'done', 'failed')),
    epoch bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 5 CHECK (max_attempts > 0),
    owner text,
    lease_until timestamptz,
    ready_at timestamptz NOT NULL DEFAULT now(),
    failure_class text,
    failure_reason text,
    changed timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, shard_id),
    CONSTRAINT leased_has_an_owner CHECK ((state = 'leased') = (owner IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT failed_says_why CHECK (state <> 'failed' OR (failure_class IS NOT NULL AND failure_reason IS NOT NULL))
);
COMMENT ON TABLE plan_shards IS 'what a worker leases of a plan; a lease of its own, so that days are not touched';
CREATE INDEX plan_shards_ready ON plan_shards (plan_id, place) WHERE state = 'ready';
CREATE INDEX plan_shards_leased ON plan_shards (lease_until) WHERE state = 'leased';

CREATE TABLE plan_recordings (
    plan_id bigint NOT NULL,
    recording_id bigint NOT NULL REFERENCES recordings,
    shard_id bigint NOT NULL,
    reasons text[] NOT NULL,
    was_id bigint REFERENCES transcripts,
    outcome text CHECK (outcome IN ('remade', 'known', 'failed')),
    transcript_id bigint REFERENCES transcripts,
    failure_class text,
    failure_reason text,
    moved boolean NOT NULL DEFAULT false,
    PRIMARY KEY (plan_id, recording_id),
    FOREIGN KEY (plan_id, shard_id) REFERENCES plan_shards,
    CONSTRAINT outcome_is_whole CHECK (
        (outcome IS NULL AND transcript_id IS NULL AND failure_class IS NULL)
        OR (outcome IN ('remade', 'known') AND transcript_id IS NOT NULL AND failure_class IS NULL)
        OR (outcome = 'failed' AND transcript_id IS NULL AND failure_class IS NOT NULL AND failure_reason IS NOT NULL))
);
COMMENT ON COLUMN plan_recordings.was_id IS 'its current transcript when the plan was drawn; NULL: it had none';
COMMENT ON COLUMN plan_recordings.outcome IS 'NULL: not yet; known: a version of this key was there already';
COMMENT ON COLUMN plan_recordings.moved IS 'the plan has let readers see it once; what moves it on later is not undone';
CREATE INDEX plan_recordings_by_shard ON plan_recordings (plan_id, shard_id);
CREATE INDEX plan_recordings_of_recording ON plan_recordings (recording_id);

ALTER TABLE parts ADD COLUMN plan_id bigint REFERENCES plans;
ALTER TABLE transcripts ADD COLUMN plan_id bigint REFERENCES plans, ADD COLUMN forced_by bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN transcripts.plan_id IS 'the plan that made it; NULL: the day''s own work';
COMMENT ON COLUMN transcripts.forced_by IS 'the plan that was told to make it although the key was there; 0: none';
ALTER TABLE jobs ADD COLUMN plan_id bigint REFERENCES plans;

CREATE TABLE flags (
    transcript_id bigint NOT NULL REFERENCES transcripts ON DELETE CASCADE,
    flag text NOT NULL CHECK (flag ~ '^[a-z][a-z_]{0,40}$'),
    day_id bigint NOT NULL REFERENCES days,
    value real,
    detail text,
    PRIMARY KEY (transcript_id, flag)
);
COMMENT ON TABLE flags IS 'why a transcript is suspect: evidence, never a verdict; a flagged one stays where it is';
COMMENT ON COLUMN flags.value IS 'the number that it goes by; detail: in words';
CREATE INDEX flags_by_day ON flags (day_id, flag);
ALTER TABLE shards ADD COLUMN judged smallint;
COMMENT ON COLUMN shards.judged IS 'the rules by which its current transcripts were flagged; NULL: not yet, or anew';

CREATE TABLE captions (
    day_id bigint NOT NULL REFERENCES days,
    meta_id text NOT NULL,
    language text NOT NULL,
    kind text NOT NULL DEFAULT '',
    text text NOT NULL,
    PRIMARY KEY (day_id, meta_id, language, kind)
);
COMMENT ON TABLE captions IS 'what the platform itself wrote down of a recording: evidence, not truth';

CREATE TABLE samples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    who text NOT NULL,
    seed bigint NOT NULL,
    strata text[] NOT NULL,
    selection jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    released timestamptz
);
COMMENT ON COLUMN samples.released IS 'its audio need not be kept any more';

CREATE TABLE sample_recordings (
    sample_id bigint NOT NULL REFERENCES samples,
    place integer NOT NULL CHECK (place > 0),
    recording_id bigint NOT NULL REFERENCES recordings,
    transcript_id bigint REFERENCES transcripts,
    stratum text NOT NULL,
    population integer NOT NULL,
    coder text,
    reference text,
    judged timestamptz,
    PRIMARY KEY (sample_id, place),
    UNIQUE (sample_id, recording_id)
);
COMMENT ON COLUMN sample_recordings.population IS 'recordings of its stratum, of which it was drawn';
COMMENT ON COLUMN sample_recordings.reference IS 'what a person heard; NULL: not judged yet; empty: no speech';

CREATE TABLE snapshots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    who text NOT NULL,
    selection jsonb NOT NULL,
    facts jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN snapshots.facts IS 'denominators and receipts as they were then';

CREATE TABLE snapshot_recordings (
    snapshot_id bigint NOT NULL REFERENCES snapshots,
    recording_id bigint NOT NULL REFERENCES recordings,
    transcript_id bigint REFERENCES transcripts,
    PRIMARY KEY (snapshot_id, recording_id)
);

GRANT SELECT ON plans, plan_shards, plan_recordings, flags, captions, samples, sample_recordings, snapshots,
    snapshot_recordings TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT, UPDATE ON plans, plan_shards, plan_recordings, samples, sample_recordings TO @scheduler@;
GRANT INSERT ON snapshots, snapshot_recordings TO @scheduler@;
GRANT UPDATE ON plans, plan_shards, plan_recordings TO @worker@;
GRANT UPDATE (state, current_id, failure_class, failure_reason) ON recordings TO @scheduler@, @worker@;
GRANT UPDATE (judged) ON shards TO @worker@;
GRANT INSERT, UPDATE, DELETE ON flags, captions TO @scheduler@, @worker@;
