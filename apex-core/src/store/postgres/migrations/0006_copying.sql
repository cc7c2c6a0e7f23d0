-- What this is half a copy of, while everything is being moved into it.
ALTER TABLE store ADD COLUMN copying uuid;
