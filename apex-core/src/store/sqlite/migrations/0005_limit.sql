-- Places that are held; who lets one lapse has lost it.
CREATE TABLE limit_place (
    key    TEXT NOT NULL,
    holder BLOB NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (key, holder)
) STRICT, WITHOUT ROWID;
CREATE INDEX limit_place_until ON limit_place (until);

-- Buckets that are not full; in microseconds since 1970.
CREATE TABLE limit_rate (
    key     TEXT NOT NULL PRIMARY KEY,
    full_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX limit_rate_full ON limit_rate (full_at);
