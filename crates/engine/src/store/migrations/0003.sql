-- Format 3: which links are of a record that is alive, counted per sync. Of a store that is brought here the bodies tell: see `schema`.

ALTER TABLE links ADD COLUMN live INTEGER NOT NULL DEFAULT 1;
