ALTER TABLE store ADD COLUMN environment TEXT;
