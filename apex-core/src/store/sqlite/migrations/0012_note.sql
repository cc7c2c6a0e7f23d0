-- What agents remember of users.
CREATE TABLE note (
    user BLOB NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    run  BLOB,
    at   INTEGER NOT NULL,
    PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;
