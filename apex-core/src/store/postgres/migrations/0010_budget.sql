-- What a user has used since a day and a month began, in UTC.
CREATE TABLE budget (
    owner        uuid PRIMARY KEY,
    day_since    bigint NOT NULL,
    day_tokens   bigint NOT NULL,
    day_usd      numeric NOT NULL,
    month_since  bigint NOT NULL,
    month_tokens bigint NOT NULL,
    month_usd    numeric NOT NULL
);

-- What is reserved for questions under way; and for a day, which reservations were settled.
CREATE TABLE budget_reservation (
    reservation uuid PRIMARY KEY,
    owner       uuid NOT NULL,
    until       bigint NOT NULL,
    settled     boolean NOT NULL,
    tokens      bigint NOT NULL,
    usd         numeric NOT NULL
);
CREATE INDEX budget_reservation_owner ON budget_reservation (owner);
