-- Places that are held; who lets one lapse has lost it.
CREATE TABLE limit_place (
    key    text NOT NULL,
    holder uuid NOT NULL,
    until  bigint NOT NULL,
    PRIMARY KEY (key, holder)
);
CREATE INDEX limit_place_until ON limit_place (until);

-- Buckets that are not full; in microseconds since 1970.
CREATE TABLE limit_rate (
    key     text PRIMARY KEY,
    full_at bigint NOT NULL
);
CREATE INDEX limit_rate_full ON limit_rate (full_at);
