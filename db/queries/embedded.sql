-- name: has_database
SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'dayscribe') AS there;

-- name: create_database
CREATE DATABASE dayscribe;
