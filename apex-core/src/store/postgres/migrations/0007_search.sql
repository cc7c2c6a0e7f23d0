-- What was said, by its words: kept beside it by the row's own trigger, so in the same transaction. A text is kept as
-- bytes because it may hold a zero; the signs that part words are blanks here, as they are for who searches. Of a very
-- long text the beginning is found; letters beyond ASCII are lower case as the database's locale has it.
CREATE FUNCTION message_search() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    words text;
BEGIN
    IF position('\x00'::bytea IN NEW.text) = 0 THEN
        words := convert_from(NEW.text, 'UTF8');
    ELSE
        words := encode(NEW.text, 'escape');
    END IF;
    NEW.search := to_tsvector(
        'pg_catalog.simple',
        translate(
            left(words, 100000),
            '-_./:@#&+=*,;!?()[]{}<>|"''`~^%$\“”„‘’«»–—…•·、。',
            repeat(' ', 64)
        )
    );
    RETURN NEW;
END
$$;
ALTER TABLE message ADD COLUMN search tsvector;
CREATE TRIGGER message_search BEFORE INSERT OR UPDATE OF text ON message
    FOR EACH ROW EXECUTE FUNCTION message_search();
UPDATE message SET text = text;
CREATE INDEX message_search ON message USING gin (search);
