-- Format 1. A body is a format byte and the record in postcard; a moment is microseconds since 1970 in UTC.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The highest numbers given out and how many rows there are: both must be had without counting, and the first must
-- outlive the rows. Written once per commit.
CREATE TABLE counters (
    name TEXT NOT NULL,
    sync INTEGER NOT NULL,
    member INTEGER NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, sync, member)
) STRICT, WITHOUT ROWID;

CREATE TABLE syncs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE positions (
    system TEXT NOT NULL,
    feed TEXT NOT NULL,
    position BLOB NOT NULL,
    PRIMARY KEY (system, feed)
) STRICT, WITHOUT ROWID;

-- `expires_from` is the moment of the delete, in a tombstone that owes nothing and waits for nobody.
CREATE TABLE links (
    id INTEGER PRIMARY KEY,
    sync INTEGER NOT NULL,
    expires_from INTEGER,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX links_by_sync ON links (sync);
CREATE INDEX links_by_expiry ON links (expires_from) WHERE expires_from IS NOT NULL;

CREATE TABLE keys (
    sync INTEGER NOT NULL,
    member INTEGER NOT NULL,
    key BLOB NOT NULL,
    link INTEGER NOT NULL,
    PRIMARY KEY (sync, member, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_link ON keys (link);

CREATE TABLE pending (
    sync INTEGER NOT NULL,
    member INTEGER NOT NULL,
    key BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (sync, member, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE owed (
    link INTEGER NOT NULL,
    member INTEGER NOT NULL,
    sync INTEGER NOT NULL,
    due INTEGER NOT NULL,
    PRIMARY KEY (link, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX owed_by_due ON owed (sync, member, due);

CREATE TABLE reservations (
    sync INTEGER NOT NULL,
    value BLOB NOT NULL,
    link INTEGER NOT NULL,
    PRIMARY KEY (sync, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE flights (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- Only ever added to at the end and removed by age.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    sync INTEGER NOT NULL,
    link INTEGER,
    key TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX ledger_by_at ON ledger (at);
CREATE INDEX ledger_by_link ON ledger (link) WHERE link IS NOT NULL;
CREATE INDEX ledger_by_key ON ledger (key);

CREATE TABLE reviews (
    id INTEGER PRIMARY KEY,
    sync INTEGER NOT NULL,
    link INTEGER,
    opened INTEGER NOT NULL,
    closed INTEGER,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX reviews_open ON reviews (sync) WHERE closed IS NULL;
CREATE INDEX reviews_closed ON reviews (closed) WHERE closed IS NOT NULL;

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
