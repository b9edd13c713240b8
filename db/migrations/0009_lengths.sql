-- A recording that could not be decoded before, and then is by a plan, gets its length and marks.
-- works with: 2
GRANT UPDATE (seconds, flags) ON recordings TO @scheduler@, @worker@;
