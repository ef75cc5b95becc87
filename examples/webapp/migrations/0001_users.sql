-- The id is random text, not a number that counts up: a session store may outlive this file, and
-- a number given out a second time would open one person's session to another.
CREATE TABLE users (
    id            TEXT PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    name          TEXT NOT NULL COLLATE NOCASE UNIQUE,
    password_hash TEXT NOT NULL,
    created_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d', 'now'))
) STRICT;
