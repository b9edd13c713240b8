-- name: stage
CREATE TEMPORARY TABLE incoming (LIKE metadata INCLUDING DEFAULTS) ON COMMIT DROP;

-- name: copy
COPY incoming (day_id, meta_id, posted, description, location_created, text_language, author_id, author_name, author_nickname,
    author_verified, digg_count, share_count, comment_count, play_count, collect_count, music_id, music_title, music_author,
    video_seconds, subtitle_language, collected, country) FROM STDIN;

-- name: merge
-- A companion may come twice, or again with newer counts: the last one read stands.
INSERT INTO metadata SELECT DISTINCT ON (day_id, meta_id) * FROM incoming ORDER BY day_id, meta_id, collected DESC NULLS LAST
ON CONFLICT (day_id, meta_id) DO UPDATE SET posted = EXCLUDED.posted, description = EXCLUDED.description,
    location_created = EXCLUDED.location_created, text_language = EXCLUDED.text_language, author_id = EXCLUDED.author_id,
    author_name = EXCLUDED.author_name, author_nickname = EXCLUDED.author_nickname, author_verified = EXCLUDED.author_verified,
    digg_count = EXCLUDED.digg_count, share_count = EXCLUDED.share_count, comment_count = EXCLUDED.comment_count,
    play_count = EXCLUDED.play_count, collect_count = EXCLUDED.collect_count, music_id = EXCLUDED.music_id,
    music_title = EXCLUDED.music_title, music_author = EXCLUDED.music_author, video_seconds = EXCLUDED.video_seconds,
    subtitle_language = EXCLUDED.subtitle_language, collected = EXCLUDED.collected, country = EXCLUDED.country;

-- name: get
SELECT * FROM metadata WHERE day_id = %(day_id)s AND meta_id = %(meta_id)s;

-- name: count
SELECT count(*) AS rows FROM metadata WHERE day_id = %(day_id)s;
