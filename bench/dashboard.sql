-- name: days
-- Finished days of one site, 144 archives each.
INSERT INTO days (site_id, date, state, staged, started, finished, summary)
SELECT %(site)s, %(first)s::date + n, 'completed', '/nowhere', now() - interval '3 hours', now(), '{}'
FROM generate_series(0, %(days)s - 1) n;

-- name: runs
INSERT INTO runs (key, digest, receipt)
SELECT decode(repeat('01', 16), 'hex'), decode(repeat('01', 32), 'hex'),
    '{"models": [{"kind": "asr", "name": "large-v3"}]}';

-- name: shards
INSERT INTO shards (day_id, name, slot, paths, size, revision, state, sealed, seal_sha256, seal_recordings, judged)
SELECT d.id, n::text, to_char((n - 1) / 6, 'FM00') || '_' || to_char(mod(n - 1, 6) * 10, 'FM00'), ARRAY['x'::bytea], 1000, 0, 'done',
    now(), sha256('x'), %(each)s, 1
FROM days d, generate_series(1, 144) n ORDER BY d.id, n;

-- name: slots
INSERT INTO slots (day_id, slot, kind, finding, name, size, revision)
SELECT day_id, slot, 'archive', 'arrived', name, size, 0 FROM shards;

-- name: parts
INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state, engine_seconds, recorded)
SELECT 'p' || id, id, 1, 1, sha256('x'), 1000, %(each)s, 'sealed', 2, now() - mod(id, 144) * interval '1 minute' FROM shards;

-- name: recordings
-- One of ten holds speech; the others hold none, as far too many do.
INSERT INTO recordings (shard_id, ordinal, day_id, meta_id, name, size, sha256, state, seconds, part_id, current_id)
SELECT s.id, o, s.day_id, (s.id * 1000 + o)::text, 'x', 1, sha256('x'),
    CASE WHEN mod((s.id - 1) * %(each)s + o, 10) = 3 THEN 'transcribed' ELSE 'no_speech' END, 20, s.id, (s.id - 1) * %(each)s + o + 1
FROM shards s, generate_series(0, %(each)s - 1) o ORDER BY s.id, o;

-- name: transcripts
-- Twenty-five words each, as often as words are in speech: the n-th commonest of 20 000 a share of 1/n.
INSERT INTO transcripts (id, recording_id, run_id, run_key, version, outcome, language, text, words, word_count, part_id)
OVERRIDING SYSTEM VALUE
SELECT r.current_id, r.id, 1, decode(repeat('01', 16), 'hex'), 1, CASE state WHEN 'transcribed' THEN 'speech' ELSE 'no_speech' END,
    CASE state WHEN 'transcribed' THEN 'en' END, CASE state WHEN 'transcribed' THEN (
        SELECT string_agg('w' || floor(exp(random() * ln(20000))), ' ') FROM generate_series(1, 25) WHERE r.id > 0) ELSE '' END,
    CASE state WHEN 'transcribed' THEN %(words)s::bytea ELSE %(nothing)s::bytea END, 25, r.part_id
FROM recordings r ORDER BY r.id;

-- name: text_index
CREATE INDEX transcripts_search ON transcripts USING gin (search);

-- name: summaries
-- Every day holds as much as every other.
UPDATE days SET summary = %(summary)s;

-- name: measure
VACUUM ANALYZE;

-- name: plain_search
-- How one writes it first: all that match, sorted; the first page of them.
SELECT r.id, d.date, ts_headline('english', t.text, websearch_to_tsquery('english', %(query)s)) FROM transcripts t
JOIN recordings r ON r.current_id = t.id JOIN days d ON d.id = r.day_id
WHERE t.search @@ websearch_to_tsquery('english', %(query)s) ORDER BY d.date DESC, d.id, r.id LIMIT 20;

-- name: plain_count
SELECT count(*) FROM transcripts WHERE search @@ websearch_to_tsquery('english', %(query)s);

-- name: plain_calendar
-- A year's days by counting what they hold.
SELECT d.date, r.state, count(*) FROM days d JOIN recordings r ON r.day_id = d.id
WHERE d.date BETWEEN %(first)s AND %(first)s::date + 364 GROUP BY d.date, r.state ORDER BY d.date;

-- name: plain_day
SELECT state, count(*) FROM recordings WHERE day_id = %(day)s GROUP BY state;

-- name: plain_status
-- As the reference answers its one route, of recordings.
SELECT r.state, count(*), min(d.date), max(d.date) FROM recordings r JOIN days d ON d.id = r.day_id GROUP BY r.state;
