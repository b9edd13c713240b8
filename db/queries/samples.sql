-- name: frame
-- Of these recordings, those that can be drawn: with a transcript that readers see. No words: only what strata go by.
SELECT r.id, r.sha256, r.ordinal, r.state, r.current_id AS transcript_id, s.name AS shard, i.name AS site, d.date, t.language,
    coalesce(s.judged > 0, false) AS judged, ARRAY(SELECT f.flag FROM flags f WHERE f.transcript_id = t.id ORDER BY f.flag COLLATE "C") AS quality_flags
FROM recordings r JOIN transcripts t ON t.id = r.current_id JOIN shards s ON s.id = r.shard_id
JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
WHERE r.id = ANY (%(ids)s) ORDER BY r.id;

-- name: put
INSERT INTO samples (name, who, seed, strata, selection) VALUES (%(name)s, %(who)s, %(seed)s, %(strata)s, %(selection)s)
ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: put_recording
INSERT INTO sample_recordings (sample_id, place, recording_id, transcript_id, stratum, population)
VALUES (%(sample_id)s, %(place)s, %(recording_id)s, %(transcript_id)s, %(stratum)s, %(population)s);

-- name: get
SELECT id, name, who, seed, strata, selection, created, released FROM samples WHERE name = %(name)s;

-- name: drawn
SELECT place, recording_id, transcript_id, stratum, population FROM sample_recordings WHERE sample_id = %(id)s ORDER BY place;

-- name: list
SELECT m.name, m.who, m.created, m.released, m.seed, m.strata, count(x.place) AS recordings,
    count(x.reference) AS judged, m.selection
FROM samples m LEFT JOIN sample_recordings x ON x.sample_id = m.id GROUP BY m.id ORDER BY m.id DESC;

-- name: audio
-- Where the audio of each place is; nothing of what the machine made of it.
SELECT x.place, x.recording_id, r.sha256, r.ordinal, r.name, r.seconds, s.id AS shard_id, s.name AS shard, s.slot, s.loose,
    s.paths, d.staged, d.date, i.name AS site
FROM sample_recordings x JOIN recordings r ON r.id = x.recording_id JOIN shards s ON s.id = r.shard_id
JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
WHERE x.sample_id = %(id)s ORDER BY x.place;

-- name: remember_audio
UPDATE samples SET selection = selection || jsonb_build_object('audio', %(folder)s::text) WHERE id = %(id)s;

-- name: places
SELECT place, recording_id, coder, reference FROM sample_recordings WHERE sample_id = %(id)s ORDER BY place;

-- name: judge
-- Compare-and-set: only what nobody has judged, or somebody judged alike; with `replace` whatever was said.
UPDATE sample_recordings SET coder = %(coder)s, reference = %(reference)s, judged = now()
WHERE sample_id = %(id)s AND place = %(place)s AND recording_id = %(recording)s
    AND (reference IS NULL OR (%(replace)s AND reference <> %(reference)s));

-- name: judged
-- Every place with what a person heard, and what the machine had made of it when the sample was drawn.
SELECT x.place, x.recording_id, x.stratum, x.population, x.reference, x.coder, t.text, t.language
FROM sample_recordings x LEFT JOIN transcripts t ON t.id = x.transcript_id WHERE x.sample_id = %(id)s ORDER BY x.place;

-- name: release
UPDATE samples SET released = now() WHERE id = %(id)s AND released IS NULL;
