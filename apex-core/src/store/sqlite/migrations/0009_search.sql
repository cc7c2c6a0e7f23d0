-- What was said, by its words. The words themselves stay where they are; what changes there changes here in the same
-- transaction, also where a row goes with another one.
CREATE VIRTUAL TABLE message_search USING fts5 (
    text,
    content = 'message',
    content_rowid = 'id',
    tokenize = 'unicode61 remove_diacritics 0'
);
CREATE TRIGGER message_search_added AFTER INSERT ON message BEGIN
    INSERT INTO message_search (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER message_search_deleted AFTER DELETE ON message BEGIN
    INSERT INTO message_search (message_search, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER message_search_changed AFTER UPDATE OF text ON message BEGIN
    INSERT INTO message_search (message_search, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO message_search (rowid, text) VALUES (new.id, new.text);
END;
INSERT INTO message_search (rowid, text) SELECT id, text FROM message;
