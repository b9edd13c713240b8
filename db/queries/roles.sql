-- name: existing
SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%(names)s);

-- name: who_am_i
SELECT rolname AS name, rolsuper AS super FROM pg_roles WHERE rolname = current_user;

-- name: create_owner
-- Owns the schema; nobody logs in as the owner.
CREATE ROLE {role} NOLOGIN;

-- name: create_login
-- No password: the embedded server's socket needs none, on another server the administrator sets it.
CREATE ROLE {role} LOGIN;

-- name: create_monitor
-- The dashboard may be asked anything by anybody: it has few connections and short questions.
CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections};

-- name: limit_questions
ALTER ROLE {role} SET statement_timeout = '2s';

-- name: join_owner
GRANT {owner} TO {role};

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS dayscribe AUTHORIZATION {owner};

-- name: shut_out_public
REVOKE ALL ON SCHEMA dayscribe FROM PUBLIC;

-- name: let_in
GRANT USAGE ON SCHEMA dayscribe TO {roles};
