-- Who may read whose conversation.
CREATE TABLE share (
    thread uuid NOT NULL REFERENCES thread (thread) ON DELETE CASCADE,
    reader uuid NOT NULL,
    owner  uuid NOT NULL,
    at     bigint NOT NULL,
    PRIMARY KEY (thread, reader)
);
CREATE INDEX share_reader ON share (reader);
