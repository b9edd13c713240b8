-- name: set_up
-- Every session looks at the same schema and clock, and a frozen one never blocks the others for long.
SELECT set_config('search_path', 'dayscribe, public', false), set_config('timezone', 'UTC', false),
    set_config('lock_timeout', '5s', false), set_config('idle_in_transaction_session_timeout', '30s', false);
