-- When a run that waits is queued again although nobody asked anything of it.
ALTER TABLE run ADD COLUMN wake_at INTEGER;
CREATE INDEX run_wake ON run (wake_at) WHERE wake_at IS NOT NULL;
