-- Logins are renewed by refresh tokens. One that was made before cannot be, and ends when its token does.
ALTER TABLE session RENAME TO session_before;
DROP INDEX session_user;
CREATE TABLE session (
    session    BLOB NOT NULL PRIMARY KEY,
    user       BLOB NOT NULL,
    scopes     TEXT NOT NULL,
    method     TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    expires_at INTEGER NOT NULL,
    family     BLOB UNIQUE, -- NULL where it cannot be renewed
    refresh    BLOB,
    created_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    lapses_at  INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_user ON session (user, created_at);
INSERT INTO session
    SELECT session, user, scopes, 'dev', hash, expires_at, NULL, NULL, created_at, created_at, expires_at, expires_at
    FROM session_before;
DROP TABLE session_before;

CREATE TABLE revocation (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    user    BLOB NOT NULL,
    session BLOB -- NULL for everything of the user's
) STRICT;
CREATE INDEX revocation_at ON revocation (at);

-- An account may be known by several subjects.
ALTER TABLE user RENAME TO user_before;
CREATE TABLE user (
    user       BLOB NOT NULL PRIMARY KEY,
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    standing   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE subject (
    subject TEXT NOT NULL PRIMARY KEY,
    user    BLOB NOT NULL REFERENCES user (user) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX subject_user ON subject (user, subject);
INSERT INTO user
    SELECT user, '["run","read","cancel"]', created_at, CASE disabled WHEN 0 THEN 'active' ELSE 'disabled' END
    FROM user_before;
INSERT INTO subject SELECT subject, user FROM user_before;
DROP TABLE user_before;

ALTER TABLE ticket ADD COLUMN address TEXT;

CREATE TABLE audit (
    id          BLOB NOT NULL PRIMARY KEY, -- in order of time
    at          INTEGER NOT NULL,
    action      TEXT NOT NULL,
    reason      TEXT,
    way         TEXT,
    user        BLOB,
    session     BLOB,
    address     TEXT,
    correlation BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_user ON audit (user, id) WHERE user IS NOT NULL;
CREATE INDEX audit_at ON audit (at);
