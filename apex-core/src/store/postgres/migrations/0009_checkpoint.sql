-- What follows a checkpoint since it was saved whole, in order.
CREATE TABLE run_checkpoint_more (
    id    bigint NOT NULL REFERENCES run_checkpoint (id) ON DELETE CASCADE,
    place bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (id, place)
);
