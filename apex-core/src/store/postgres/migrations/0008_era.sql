-- Which server, on which timeline, the rows were written by last, and how often that has changed. A run whose era is
-- not the store's may have lost events that somebody saw.
ALTER TABLE store ADD COLUMN written_by text, ADD COLUMN era bigint NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN era bigint NOT NULL DEFAULT 0;
