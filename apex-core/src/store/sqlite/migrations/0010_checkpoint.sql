-- What follows a checkpoint since it was saved whole, in order.
CREATE TABLE run_checkpoint_more (
    id    INTEGER NOT NULL REFERENCES run_checkpoint (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (id, place)
) STRICT;
