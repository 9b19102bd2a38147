-- Format 3: which links are of a record that is alive, counted per sync. Of a store that is brought here, detached links count as alive
-- until they are next written: only tombstones can be told by their row.

ALTER TABLE links ADD COLUMN live INTEGER NOT NULL DEFAULT 1;
UPDATE links SET live = 0 WHERE expires_from IS NOT NULL;
INSERT INTO counters (name, sync, member, value) SELECT 'live', sync, 0, count(*) FROM links WHERE live = 1 GROUP BY sync;
