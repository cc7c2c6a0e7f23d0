-- Ids are 16 bytes, times are milliseconds since 1970 in UTC, digests are 32 bytes.

CREATE TABLE store (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    inbox_epoch BLOB NOT NULL
) STRICT;

-- What changes with every append is kept apart from what is long: SQLite rewrites whole rows.
CREATE TABLE run (
    id          INTEGER PRIMARY KEY, -- in the order in which runs were put on record
    run         BLOB NOT NULL UNIQUE,
    user        BLOB NOT NULL,
    thread      BLOB NOT NULL,
    parent      BLOB,
    scopes      TEXT NOT NULL,
    request     BLOB NOT NULL,
    digest      BLOB NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    state       TEXT NOT NULL,
    epoch       BLOB NOT NULL,
    fence       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    holder      BLOB,
    lease_until INTEGER NOT NULL,
    placed      INTEGER NOT NULL,
    head        INTEGER NOT NULL,
    oldest      INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    last_batch  BLOB,
    signals     TEXT, -- NULL for none
    unseen      INTEGER NOT NULL,
    folded      INTEGER NOT NULL, -- up to where run_snapshot goes
    dropped     INTEGER NOT NULL DEFAULT 0, -- whether its events went with their age
    UNIQUE (user, request)
) STRICT;
CREATE INDEX run_thread ON run (user, thread);
-- An index over a column that every append changes would make every append dearer.
CREATE INDEX run_open ON run (user, id) WHERE ended_at IS NULL;
CREATE INDEX run_queued ON run (id) WHERE state = 'queued' AND parent IS NULL;
CREATE INDEX run_at_once ON run (id)
    WHERE ended_at IS NULL AND holder IS NULL AND (state = 'cancelling' OR (state = 'queued' AND parent IS NOT NULL));
CREATE INDEX run_held ON run (id) WHERE holder IS NOT NULL;
CREATE INDEX run_history ON run (ended_at) WHERE ended_at IS NOT NULL AND dropped = 0;

CREATE TABLE run_input (
    id          INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    text        TEXT NOT NULL,
    attachments TEXT NOT NULL
) STRICT;

CREATE TABLE run_checkpoint (
    id      INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    state   BLOB NOT NULL
) STRICT;

CREATE TABLE run_snapshot (
    id       INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    snapshot TEXT NOT NULL
) STRICT;

CREATE TABLE event (
    id       INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    terminal INTEGER NOT NULL,
    json     BLOB NOT NULL,
    PRIMARY KEY (id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    user   BLOB NOT NULL,
    seq    INTEGER NOT NULL,
    run    BLOB NOT NULL,
    thread BLOB NOT NULL,
    state  TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (user, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE thread (
    thread     BLOB NOT NULL PRIMARY KEY,
    user       BLOB NOT NULL,
    title      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_user ON thread (user, updated_at, thread);

CREATE TABLE message (
    id          INTEGER PRIMARY KEY,
    thread      BLOB NOT NULL REFERENCES thread (thread) ON DELETE CASCADE,
    run         BLOB NOT NULL,
    role        TEXT NOT NULL,
    text        TEXT NOT NULL,
    attachments TEXT NOT NULL,
    at          INTEGER NOT NULL,
    UNIQUE (thread, run, role)
) STRICT;
CREATE INDEX message_thread ON message (thread, id);

-- The content of files and artifacts is in files of their own, named by `blob`.
CREATE TABLE file (
    file   BLOB NOT NULL PRIMARY KEY,
    user   BLOB NOT NULL,
    name   TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    at     INTEGER NOT NULL,
    blob   BLOB NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX file_user ON file (user, at, file);

CREATE TABLE artifact (
    artifact   BLOB NOT NULL PRIMARY KEY,
    user       BLOB NOT NULL,
    run        BLOB NOT NULL,
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    blob       BLOB NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_run ON artifact (run, name);

CREATE TABLE ticket (
    hash                  BLOB NOT NULL PRIMARY KEY,
    user                  BLOB NOT NULL,
    scopes                TEXT NOT NULL,
    session               BLOB,
    audience              TEXT NOT NULL,
    origin                TEXT,
    expires_at            INTEGER NOT NULL,
    credential_expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_user ON ticket (user);
CREATE INDEX ticket_expires ON ticket (expires_at);

CREATE TABLE session (
    hash       BLOB NOT NULL PRIMARY KEY,
    session    BLOB NOT NULL UNIQUE,
    user       BLOB NOT NULL,
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_user ON session (user, created_at);

CREATE TABLE user (
    user       BLOB NOT NULL PRIMARY KEY,
    subject    TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    disabled   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
