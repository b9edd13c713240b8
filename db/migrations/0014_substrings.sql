-- Languages that are written without spaces are searched by parts of their texts: one and two signs each, in an index of
-- their own (the next step makes it).
-- works with: 2

CREATE FUNCTION bare(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT lower(regexp_replace($1, '\s+', '', 'g'))
$$;
COMMENT ON FUNCTION bare(text) IS 'a text as parts of it are looked for: without spaces, which mean nothing in it, and in small letters';

CREATE FUNCTION pieces(text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(DISTINCT piece), '{}') FROM (
        SELECT sign, lead(sign) OVER (ORDER BY place) AS following
        FROM unnest(string_to_array(dayscribe.bare($1), NULL)) WITH ORDINALITY AS u (sign, place)
    ) pair, LATERAL (VALUES (sign), (sign || following)) AS v (piece) WHERE piece IS NOT NULL
$$;
COMMENT ON FUNCTION pieces(text) IS 'each sign of a text, and each two that follow each other: whatever is part of the text has its pieces among them';

CREATE FUNCTION holds(text, wanted text[], without text[]) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT NOT EXISTS (SELECT FROM unnest(wanted) one WHERE position(one IN dayscribe.bare($1)) = 0)
        AND NOT EXISTS (SELECT FROM unnest(without) one WHERE position(one IN dayscribe.bare($1)) > 0)
$$;
