-- name: put
-- Make a site, or change where its audio lies; the name is the identity.
INSERT INTO sites (name, source, location, time_zone, slot_minutes, slot_clock, layout, route)
VALUES (%(name)s, %(source)s, %(location)s, %(time_zone)s, %(slot_minutes)s, %(slot_clock)s, %(layout)s, %(route)s)
ON CONFLICT (name) DO UPDATE SET source = EXCLUDED.source, location = EXCLUDED.location,
    time_zone = EXCLUDED.time_zone, slot_minutes = EXCLUDED.slot_minutes, slot_clock = EXCLUDED.slot_clock,
    layout = EXCLUDED.layout, route = EXCLUDED.route
RETURNING id, name, source, location, time_zone, slot_minutes, slot_clock, layout, route;

-- name: get
SELECT id, name, source, location, time_zone, slot_minutes, slot_clock, layout, route FROM sites WHERE name = %(name)s;

-- name: all
SELECT id, name, source, location, time_zone, slot_minutes, slot_clock, layout, route FROM sites ORDER BY name;

-- name: discovering
-- Whoever changes the row asks; another tick finds that it was done.
UPDATE sites SET discovered = clock_timestamp()
WHERE id = %(id)s AND (discovered IS NULL OR discovered < clock_timestamp() - %(every)s);
