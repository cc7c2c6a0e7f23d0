-- What agents remember of users. A text is kept as bytes because it may hold a zero.
CREATE TABLE note (
    owner uuid NOT NULL,
    name  text COLLATE "C" NOT NULL,
    text  bytea NOT NULL,
    run   uuid,
    at    bigint NOT NULL,
    PRIMARY KEY (owner, name)
);
