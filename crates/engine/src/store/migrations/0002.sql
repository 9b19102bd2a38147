-- Format 2: records that wait for others that they refer to. `awaited` says for what: see `references::Awaited::encode`.

CREATE TABLE waits (
    awaited BLOB NOT NULL,
    link INTEGER NOT NULL,
    sync INTEGER NOT NULL,
    PRIMARY KEY (awaited, link)
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_by_link ON waits (sync, link);
