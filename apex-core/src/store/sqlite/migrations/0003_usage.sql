-- Costs are decimal texts: 24 decimals fit no integer and no double.
CREATE TABLE usage_attempt (
    attempt            BLOB NOT NULL PRIMARY KEY,
    user               BLOB NOT NULL,
    run                BLOB,
    step               INTEGER,
    number             INTEGER NOT NULL,
    at                 INTEGER NOT NULL,
    took_ms            INTEGER NOT NULL,
    provider           TEXT NOT NULL,
    model              TEXT NOT NULL,
    outcome            TEXT NOT NULL,
    reason             TEXT,
    request            TEXT,
    service_tier       TEXT,
    cache_write_tokens INTEGER NOT NULL,
    input_tokens       INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    cost_usd           TEXT,
    estimated          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_attempt_user ON usage_attempt (user, at, attempt);
CREATE INDEX usage_attempt_run ON usage_attempt (run) WHERE run IS NOT NULL;
