-- name: measure
-- How many recordings there are, roughly and at once (0: nobody has counted yet); whether the query has a word or a number; the
-- query as words, how much is left of it without the language's stop words, and what the index can look up, which knows words
-- but not which one follows which.
SELECT greatest(c.reltuples, 0)::bigint AS recordings,
    numnode(websearch_to_tsquery('simple', %(query)s)) > 0 AS worded, numnode(asked.words) AS terms, asked.words::text AS words,
    regexp_replace(asked.words::text, '<(-|[0-9]+)>', '&', 'g') AS candidates
FROM pg_class c,
    (SELECT websearch_to_tsquery(dayscribe.text_config(%(language)s), %(query)s) AS words) asked
WHERE c.oid = 'recordings'::regclass;

-- name: expect
-- How many transcripts the planner expects to match, from its list of the commonest words: no row is read for it.
EXPLAIN (FORMAT JSON) SELECT FROM transcripts t
WHERE ((%(pieces)s::text[] IS NULL AND t.search @@ %(words)s::tsquery)
        OR (%(pieces)s::text[] IS NOT NULL AND t.language = ANY ('{zh,yue,ja,th,lo,km,my}')
            AND dayscribe.pieces(t.text) @> %(pieces)s::text[]))
    AND (%(only)s::text IS NULL OR t.language = %(only)s);

-- name: key
-- Where a recording stands in the order of all hits, newest day first, within a day as its recordings come; and whether its
-- day is one of those looked through.
SELECT d.date AS key_date, d.id AS key_day, r.id AS key_recording,
    (%(site)s::text IS NULL OR i.name = %(site)s) AND (%(start)s::date IS NULL OR d.date >= %(start)s)
        AND (%(stop)s::date IS NULL OR d.date <= %(stop)s) AS key_inside
FROM recordings r JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id WHERE r.id = %(after)s;

-- name: by_index
-- All that match, counted; of them a page after the key. Words, or parts of texts: the planner sees but one of the two, since
-- the other's condition is false beforehand. Materialised, so that the planner uses the text index and not the
-- key. CASE, since it takes what is true of every row for rare and then walks through all days for each. Only what is
-- transcribed, as in a walk: a text without words would match whatever asks that a word is not there.
WITH hit AS MATERIALIZED (
    SELECT t.id, t.recording_id FROM transcripts t
    WHERE ((%(pieces)s::text[] IS NULL AND t.search @@ %(words)s::tsquery)
            OR (%(pieces)s::text[] IS NOT NULL AND t.language = ANY ('{zh,yue,ja,th,lo,km,my}')
                AND dayscribe.pieces(t.text) @> %(pieces)s::text[]
                AND dayscribe.holds(t.text, %(wanted)s::text[], %(without)s::text[])))
        AND (%(only)s::text IS NULL OR t.language = %(only)s)
        AND (%(flag)s::text IS NULL
            OR EXISTS (SELECT FROM flags f WHERE f.transcript_id = t.id AND f.flag = %(flag)s))
), seen AS MATERIALIZED (
    SELECT d.date, d.id AS day_id, r.id AS recording_id, hit.id AS transcript_id
    FROM hit JOIN recordings r ON r.id = hit.recording_id AND CASE WHEN r.current_id = hit.id AND r.state = 'transcribed' THEN true END
    JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
    WHERE (%(site)s::text IS NULL OR i.name = %(site)s)
        AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
)
SELECT whole.total, page.recording_id, page.transcript_id FROM (SELECT count(*) AS total FROM seen) whole
LEFT JOIN (
    SELECT * FROM seen
    WHERE %(key_date)s::date IS NULL OR date < %(key_date)s
        OR (date = %(key_date)s AND (day_id, recording_id) > (%(key_day)s, %(key_recording)s))
    ORDER BY date DESC, day_id, recording_id LIMIT %(limit)s
) page ON true
ORDER BY page.date DESC, page.day_id, page.recording_id;

-- name: days
-- The next days to walk through, after the key's day.
SELECT d.id AS day_id, d.date FROM days d JOIN sites i ON i.id = d.site_id
WHERE (%(site)s::text IS NULL OR i.name = %(site)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
    AND (%(key_date)s::date IS NULL OR d.date < %(key_date)s OR (d.date = %(key_date)s AND d.id > %(key_day)s))
ORDER BY d.date DESC, d.id LIMIT 100;

-- name: walk
-- The next recordings of a day, and which of them match. OFFSET 0 keeps the planner from fetching all that match first.
WITH walked AS MATERIALIZED (
    SELECT r.id, r.current_id, r.state FROM recordings r WHERE r.day_id = %(day_id)s AND r.id > %(after)s ORDER BY r.id LIMIT %(room)s
)
SELECT whole.walked, whole.last, hit.recording_id, hit.transcript_id
FROM (SELECT count(*) AS walked, max(id) AS last FROM walked) whole
LEFT JOIN (
    SELECT w.id AS recording_id, t.id AS transcript_id FROM walked w
    CROSS JOIN LATERAL (SELECT v.id, v.language, v.search, v.text FROM transcripts v WHERE v.id = w.current_id OFFSET 0) t
    WHERE w.state = 'transcribed' AND ((%(pieces)s::text[] IS NULL AND t.search @@ %(words)s::tsquery)
            OR (%(pieces)s::text[] IS NOT NULL AND t.language = ANY ('{zh,yue,ja,th,lo,km,my}')
                AND dayscribe.pieces(t.text) @> %(pieces)s::text[]
                AND dayscribe.holds(t.text, %(wanted)s::text[], %(without)s::text[])))
        AND (%(only)s::text IS NULL OR t.language = %(only)s)
        AND (%(flag)s::text IS NULL
            OR EXISTS (SELECT FROM flags f WHERE f.transcript_id = t.id AND f.flag = %(flag)s))
    ORDER BY w.id LIMIT %(limit)s
) hit ON true
ORDER BY hit.recording_id;

-- name: show
-- The page's hits. The characters that mark what was found are taken out of the text first, so that no text can mark; a "<"
-- is another one meanwhile, since what looks like a tag would be left out.
SELECT i.name AS site, d.date, s.slot, s.name AS shard, r.id AS recording_id, r.meta_id, t.version, t.language, r.seconds, t.words,
    CASE WHEN %(pieces)s::text[] IS NOT NULL THEN t.text END AS text,
    ts_headline(asked.config, plain.text, %(words)s::tsquery,
        E'StartSel=\x02, StopSel=\x03, MaxFragments=2, MaxWords=20, MinWords=8') AS excerpt,
    ts_headline(asked.config, plain.text, %(words)s::tsquery, E'StartSel=\x02, StopSel=\x03, HighlightAll=true') AS whole
FROM unnest(%(transcripts)s::bigint[]) WITH ORDINALITY AS u (id, place)
JOIN transcripts t ON t.id = u.id JOIN recordings r ON r.id = t.recording_id
JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
CROSS JOIN LATERAL (SELECT translate(t.text, E'<\x02\x03\x04', E'\x04') AS text) plain
CROSS JOIN (SELECT dayscribe.text_config(%(language)s) AS config) asked
ORDER BY u.place;
