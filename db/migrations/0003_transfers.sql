-- Transfers: what each day should have, file by file; how a site's files come here; and what stands in their way.
-- works with: 2

ALTER TABLE sites
    ADD COLUMN slot_clock text NOT NULL DEFAULT 'local' CHECK (slot_clock IN ('local', 'utc')),
    ADD COLUMN layout jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN route jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN discovered timestamptz;
COMMENT ON COLUMN sites.slot_clock IS 'the clock that dates and slots in file names are read from';
COMMENT ON COLUMN sites.layout IS 'templates of folders and file names; what is left out is as the default has it';
COMMENT ON COLUMN sites.route IS 'how files come here: by what, from where, to where; {}: they are at hand. No secret.';

COMMENT ON COLUMN sites.discovered IS 'when its source was last asked which days it has, where that asks a service';

ALTER TABLE days
    ADD COLUMN listings integer NOT NULL DEFAULT 0,
    ADD COLUMN listed timestamptz,
    ADD COLUMN look_at timestamptz DEFAULT now(),
    ADD COLUMN look_tries integer NOT NULL DEFAULT 0,
    ADD COLUMN empty_since timestamptz,
    ADD COLUMN tidied timestamptz,
    ADD COLUMN tidy_at timestamptz;
COMMENT ON COLUMN days.listings IS 'how often its source was listed to the end';
COMMENT ON COLUMN days.look_at IS 'when a tick lists its source the next time, if its files have to be moved; NULL: never by itself';
COMMENT ON COLUMN days.empty_since IS 'when its source first showed nothing for it';
COMMENT ON COLUMN days.tidied IS 'when its staged audio was let go, or found to be nobody''s to let go';
COMMENT ON COLUMN days.tidy_at IS 'not before: something of it could not be removed';
CREATE INDEX days_to_tidy ON days (finished) WHERE tidied IS NULL AND finished IS NOT NULL;
CREATE INDEX days_to_look_at ON days (look_at) WHERE look_at IS NOT NULL;

-- An hour that the clock repeats has its slots twice: 02_10, and 02_10b an hour later.
ALTER TABLE slots DROP CONSTRAINT slots_slot_check;
ALTER TABLE slots ADD CONSTRAINT slots_slot_check CHECK (slot ~ '^[0-9]{2}_[0-9]{2}b?$');
ALTER TABLE slots ADD COLUMN begins timestamptz;
COMMENT ON COLUMN slots.begins IS 'the instant at which it begins; NULL: a time that the site''s clock never shows';
ALTER TABLE shards DROP CONSTRAINT shards_slot_check;
ALTER TABLE shards ADD CONSTRAINT shards_slot_check CHECK (slot ~ '^[0-9]{2}_[0-9]{2}b?$');

ALTER TABLE transfers DROP CONSTRAINT transfers_state_check;
ALTER TABLE transfers ADD CONSTRAINT transfers_state_check CHECK (state IN (
    'intent', 'active', 'paused', 'needs_login', 'needs_consent', 'succeeded', 'failed', 'over_quota', 'expired', 'cancelled',
    'unknown'));
ALTER TABLE transfers
    ADD COLUMN what text NOT NULL DEFAULT 'archives' CHECK (what IN ('archives', 'companions')),
    ADD COLUMN owner text NOT NULL DEFAULT '',
    ADD COLUMN expected_files integer NOT NULL DEFAULT 0,
    ADD COLUMN expected_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN deadline timestamptz,
    ADD COLUMN looks integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT over_is_finished CHECK ((finished IS NOT NULL) = (state IN (
        'succeeded', 'failed', 'over_quota', 'expired', 'cancelled', 'unknown')));
COMMENT ON COLUMN transfers.owner IS 'the system''s user whose login moves it; a tick asks only for its own';
COMMENT ON COLUMN transfers.message IS 'what its mover says of it, or what came of it, in one sentence';
-- At most one at a time of each kind: what is under way is never asked for twice.
CREATE UNIQUE INDEX transfers_one_live ON transfers (day_id, what) WHERE finished IS NULL;
CREATE INDEX transfers_live ON transfers (id) WHERE finished IS NULL;

CREATE TABLE files (
    day_id bigint NOT NULL REFERENCES days,
    path bytea NOT NULL,
    kind text NOT NULL CHECK (kind IN ('archive', 'metadata', 'subtitles', 'comments', 'loose', 'double')),
    slot text CHECK (slot ~ '^[0-9]{2}_[0-9]{2}b?$'),
    state text NOT NULL DEFAULT 'listed' CHECK (state IN ('listed', 'arrived', 'missing', 'wrong', 'waived', 'gone', 'removed')),
    size bigint CHECK (size >= 0),
    algorithm text CHECK (algorithm ~ '^[a-z0-9_]{1,20}$'),
    checksum text CHECK (checksum ~ '^[0-9a-f]{8,128}$'),
    modified timestamptz,
    gone timestamptz,
    since integer NOT NULL,
    seen integer NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    reason text,
    transfer_id bigint REFERENCES transfers,
    arrived timestamptz,
    arrived_size bigint,
    arrived_modified timestamptz,
    verified timestamptz,
    shard text,
    joined boolean NOT NULL DEFAULT false,
    PRIMARY KEY (day_id, path),
    CONSTRAINT checksum_is_whole CHECK ((algorithm IS NULL) = (checksum IS NULL)),
    CONSTRAINT gone_since_when CHECK (state <> 'gone' OR gone IS NOT NULL),
    CONSTRAINT amiss_says_why CHECK (state NOT IN ('missing', 'wrong', 'waived') OR reason IS NOT NULL)
);
COMMENT ON TABLE files IS 'what a day''s source lists, and what has become of each file on its way here';
COMMENT ON COLUMN files.path IS 'below the day''s folder, at the source and here';
COMMENT ON COLUMN files.kind IS 'double: another file stands for its slot';
COMMENT ON COLUMN files.state IS 'waived: a person goes on without it; removed: it was worked, and its bytes were let go';
COMMENT ON COLUMN files.since IS 'number of the listing that first showed it; seen: of the last one that did';
COMMENT ON COLUMN files.tries IS 'transfers that ended without it';
COMMENT ON COLUMN files.arrived_size IS 'what the source said when it arrived: another size now means that it was changed there';
COMMENT ON COLUMN files.verified IS 'when its bytes were found to have its checksum; NULL: only its size was looked at';
COMMENT ON COLUMN files.joined IS 'its rows are in the ledger';
CREATE INDEX files_by_state ON files (day_id, kind, state);
CREATE INDEX files_here ON files (day_id) INCLUDE (size, state, transfer_id) WHERE state = 'arrived' OR transfer_id IS NOT NULL;
CREATE INDEX files_by_transfer ON files (transfer_id) WHERE transfer_id IS NOT NULL;
CREATE INDEX files_to_open ON files (day_id, path) WHERE state = 'arrived' AND shard IS NULL AND kind IN ('archive', 'loose');
CREATE INDEX files_to_join ON files (day_id, path) WHERE state = 'arrived' AND kind = 'metadata' AND NOT joined;

-- What earlier listings showed. Of loose files only the sum of their sizes is known.
INSERT INTO files (day_id, path, kind, slot, state, size, since, seen, arrived, arrived_size, shard)
SELECT s.day_id, p.path, CASE WHEN s.loose THEN 'loose' ELSE 'archive' END, s.slot, 'arrived',
    CASE WHEN s.loose THEN NULL ELSE s.size END, 0, 0, s.changed, CASE WHEN s.loose THEN NULL ELSE s.size END, s.name
FROM shards s CROSS JOIN LATERAL unnest(s.paths) AS p (path) ON CONFLICT DO NOTHING;

CREATE TABLE troubles (
    site_id integer NOT NULL REFERENCES sites,
    owner text NOT NULL,
    kind text NOT NULL,
    message text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    times integer NOT NULL DEFAULT 1,
    retry_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, owner)
);
COMMENT ON TABLE troubles IS 'while a row is here a site''s mover refuses its owner, who asks again at retry_at or after a login';

GRANT SELECT ON files, troubles TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT, UPDATE ON files TO @scheduler@;
GRANT UPDATE (tidied) ON days TO @worker@;
GRANT INSERT, UPDATE, DELETE ON troubles TO @scheduler@;
