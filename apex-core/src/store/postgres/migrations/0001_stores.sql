-- Times are milliseconds since 1970 in UTC, digests are 32 bytes. What people write is kept as the bytes of its UTF-8,
-- because a `text` cannot hold the character U+0000: convert_from(text, 'UTF8') shows it.

CREATE TABLE store (
    one         integer PRIMARY KEY CHECK (one = 1),
    version     integer NOT NULL,
    inbox_epoch uuid NOT NULL,
    environment text NOT NULL
);

-- The processes that have the database open. Each says every second that it lives.
CREATE TABLE node (
    node    uuid PRIMARY KEY,
    seen_at bigint NOT NULL -- by the database's clock
);

-- Half of a page stays free, so that what every append changes stays on its page and no index has to know.
CREATE TABLE run (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- a user's runs in the order in which they were put on record
    version     bigint NOT NULL DEFAULT 0, -- raised by every change
    run         uuid NOT NULL UNIQUE,
    owner       uuid NOT NULL,
    thread      uuid NOT NULL,
    parent      uuid,
    scopes      text NOT NULL,
    request     uuid NOT NULL,
    digest      bytea NOT NULL,
    started_at  bigint NOT NULL,
    ended_at    bigint,
    state       text NOT NULL,
    epoch       uuid NOT NULL,
    fence       bigint NOT NULL,
    attempt     bigint NOT NULL,
    holder      uuid,
    lease_until bigint NOT NULL,
    placed      boolean NOT NULL,
    head        bigint NOT NULL,
    oldest      bigint NOT NULL,
    bytes       bigint NOT NULL,
    last_batch  uuid,
    signals     text, -- NULL for none
    unseen      boolean NOT NULL,
    folded      bigint NOT NULL, -- up to where run_snapshot goes
    dropped     boolean NOT NULL DEFAULT false, -- whether its events went with their age
    UNIQUE (owner, request)
) WITH (fillfactor = 50);
CREATE INDEX run_thread ON run (owner, thread);
CREATE INDEX run_open ON run (owner, id) WHERE ended_at IS NULL;
CREATE INDEX run_queued ON run (id) WHERE state = 'queued' AND parent IS NULL;
CREATE INDEX run_at_once ON run (id)
    WHERE ended_at IS NULL AND holder IS NULL AND (state = 'cancelling' OR (state = 'queued' AND parent IS NOT NULL));
CREATE INDEX run_held ON run (id) WHERE holder IS NOT NULL;
CREATE INDEX run_history ON run (ended_at) WHERE ended_at IS NOT NULL AND NOT dropped;

CREATE TABLE run_input (
    id          bigint PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    text        bytea NOT NULL,
    attachments text NOT NULL
);

CREATE TABLE run_checkpoint (
    id      bigint PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    state   bytea NOT NULL
);

CREATE TABLE run_snapshot (
    id       bigint PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    snapshot bytea NOT NULL
);

-- Without a reference to `run`: checking one would cost as much as the row, and no event is added but by the
-- statement that changes its run.
CREATE TABLE event (
    id       bigint NOT NULL,
    seq      bigint NOT NULL,
    terminal boolean NOT NULL,
    json     bytea NOT NULL,
    PRIMARY KEY (id, seq)
);

-- One row for each user. Whoever judges what a user may have holds its lock.
CREATE TABLE inbox_head (
    owner uuid PRIMARY KEY,
    head  bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE inbox (
    owner  uuid NOT NULL,
    seq    bigint NOT NULL,
    run    uuid NOT NULL,
    thread uuid NOT NULL,
    state  text NOT NULL,
    at     bigint NOT NULL,
    PRIMARY KEY (owner, seq)
);

CREATE TABLE thread (
    thread     uuid PRIMARY KEY,
    owner      uuid NOT NULL,
    title      bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE INDEX thread_owner ON thread (owner, updated_at, thread);

CREATE TABLE message (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread      uuid NOT NULL REFERENCES thread (thread) ON DELETE CASCADE,
    run         uuid NOT NULL,
    role        text NOT NULL,
    text        bytea NOT NULL,
    attachments text NOT NULL,
    at          bigint NOT NULL,
    UNIQUE (thread, run, role)
);
CREATE INDEX message_thread ON message (thread, id);

-- The content of files and artifacts: being written by `writer`, kept, or removed.
CREATE TABLE content (
    content    uuid PRIMARY KEY,
    writer     uuid,
    removed_at bigint
);
CREATE INDEX content_unkept ON content (content) WHERE writer IS NOT NULL OR removed_at IS NOT NULL;

CREATE TABLE chunk (
    content uuid NOT NULL REFERENCES content (content) ON DELETE CASCADE,
    number  integer NOT NULL,
    bytes   bytea NOT NULL,
    PRIMARY KEY (content, number)
);
-- It is compressed already, or not worth it.
ALTER TABLE chunk ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE file (
    file    uuid PRIMARY KEY,
    owner   uuid NOT NULL,
    name    text NOT NULL,
    bytes   bigint NOT NULL,
    sha256  text NOT NULL,
    at      bigint NOT NULL,
    content uuid NOT NULL UNIQUE REFERENCES content (content)
);
CREATE INDEX file_owner ON file (owner, at, file);

CREATE TABLE artifact (
    artifact   uuid PRIMARY KEY,
    owner      uuid NOT NULL,
    run        uuid NOT NULL,
    name       text COLLATE "C" NOT NULL,
    media_type text NOT NULL,
    bytes      bigint NOT NULL,
    sha256     text NOT NULL,
    content    uuid NOT NULL UNIQUE REFERENCES content (content)
);
CREATE INDEX artifact_run ON artifact (run, name);

CREATE TABLE ticket (
    hash                  bytea PRIMARY KEY,
    owner                 uuid NOT NULL,
    scopes                text NOT NULL,
    session               uuid,
    audience              text NOT NULL,
    origin                text,
    address               text,
    expires_at            bigint NOT NULL,
    credential_expires_at bigint NOT NULL
);
CREATE INDEX ticket_owner ON ticket (owner);
CREATE INDEX ticket_expires ON ticket (expires_at);

CREATE TABLE session (
    session    uuid PRIMARY KEY,
    owner      uuid NOT NULL,
    scopes     text NOT NULL,
    method     text NOT NULL,
    hash       bytea NOT NULL UNIQUE,
    expires_at bigint NOT NULL,
    family     bytea UNIQUE, -- NULL where it cannot be renewed
    refresh    bytea,
    created_at bigint NOT NULL,
    renewed_at bigint NOT NULL,
    lapses_at  bigint NOT NULL,
    ends_at    bigint NOT NULL
);
CREATE INDEX session_owner ON session (owner, created_at);

CREATE TABLE revocation (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      bigint NOT NULL,
    owner   uuid NOT NULL,
    session uuid -- NULL for everything of the user's
);
CREATE INDEX revocation_at ON revocation (at, id);

CREATE TABLE account (
    account    uuid PRIMARY KEY,
    scopes     text NOT NULL,
    created_at bigint NOT NULL,
    standing   text NOT NULL
);

CREATE TABLE subject (
    subject text COLLATE "C" PRIMARY KEY,
    account uuid NOT NULL REFERENCES account (account) ON DELETE CASCADE
);
CREATE INDEX subject_account ON subject (account, subject);

CREATE TABLE audit (
    id          uuid PRIMARY KEY, -- in order of time
    at          bigint NOT NULL,
    action      text NOT NULL,
    reason      text,
    way         text,
    owner       uuid,
    session     uuid,
    address     text,
    correlation uuid
);
CREATE INDEX audit_owner ON audit (owner, id) WHERE owner IS NOT NULL;
CREATE INDEX audit_at ON audit (at);

CREATE TABLE usage_attempt (
    attempt            uuid PRIMARY KEY,
    owner              uuid NOT NULL,
    run                uuid,
    step               bigint,
    number             bigint NOT NULL,
    at                 bigint NOT NULL,
    took_ms            bigint NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    outcome            text NOT NULL,
    reason             text,
    request            text,
    service_tier       text,
    cache_write_tokens bigint NOT NULL,
    input_tokens       bigint NOT NULL,
    cached_tokens      bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    reasoning_tokens   bigint NOT NULL,
    cost_usd           numeric,
    estimated          boolean NOT NULL
);
CREATE INDEX usage_attempt_owner ON usage_attempt (owner, at, attempt);
CREATE INDEX usage_attempt_run ON usage_attempt (run) WHERE run IS NOT NULL;
