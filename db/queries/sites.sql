-- name: put
-- Make a site, or change where its audio lies; the name is the identity.
INSERT INTO sites (name, source, location, time_zone, slot_minutes)
VALUES (%(name)s, %(source)s, %(location)s, %(time_zone)s, %(slot_minutes)s)
ON CONFLICT (name) DO UPDATE SET source = EXCLUDED.source, location = EXCLUDED.location,
    time_zone = EXCLUDED.time_zone, slot_minutes = EXCLUDED.slot_minutes
RETURNING id, name, source, location, time_zone, slot_minutes;

-- name: get
SELECT id, name, source, location, time_zone, slot_minutes FROM sites WHERE name = %(name)s;

-- name: all
SELECT id, name, source, location, time_zone, slot_minutes FROM sites ORDER BY name;
