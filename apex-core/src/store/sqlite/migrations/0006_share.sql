-- Who may read whose conversation.
CREATE TABLE share (
    thread BLOB NOT NULL REFERENCES thread (thread) ON DELETE CASCADE,
    reader BLOB NOT NULL,
    user   BLOB NOT NULL, -- the owner
    at     INTEGER NOT NULL,
    PRIMARY KEY (thread, reader)
) STRICT, WITHOUT ROWID;
CREATE INDEX share_reader ON share (reader);
