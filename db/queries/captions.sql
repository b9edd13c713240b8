-- name: stage
CREATE TEMPORARY TABLE incoming (LIKE captions INCLUDING DEFAULTS, collected timestamptz) ON COMMIT DROP;

-- name: copy
COPY incoming (day_id, meta_id, language, kind, text, collected) FROM STDIN;

-- name: merge
-- Captions may come twice: of one file the last ones collected stand, of two files those of the one read last.
INSERT INTO captions (day_id, meta_id, language, kind, text)
SELECT DISTINCT ON (day_id, meta_id, language, kind) day_id, meta_id, language, kind, text FROM incoming
ORDER BY day_id, meta_id, language, kind, collected DESC NULLS LAST
ON CONFLICT (day_id, meta_id, language, kind) DO UPDATE SET text = EXCLUDED.text;

-- name: count
SELECT count(*) AS rows FROM captions WHERE day_id = %(day_id)s;
