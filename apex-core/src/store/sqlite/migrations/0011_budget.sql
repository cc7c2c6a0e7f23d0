-- What a user has used since a day and a month began, in UTC. Money is a decimal text.
CREATE TABLE budget (
    user         BLOB NOT NULL PRIMARY KEY,
    day_since    INTEGER NOT NULL,
    day_tokens   INTEGER NOT NULL,
    day_usd      TEXT NOT NULL,
    month_since  INTEGER NOT NULL,
    month_tokens INTEGER NOT NULL,
    month_usd    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What is reserved for questions under way; and for a day, which reservations were settled.
CREATE TABLE budget_reservation (
    reservation BLOB NOT NULL PRIMARY KEY,
    user        BLOB NOT NULL,
    until       INTEGER NOT NULL,
    settled     INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    usd         TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_reservation_user ON budget_reservation (user);
CREATE INDEX budget_reservation_until ON budget_reservation (until);
