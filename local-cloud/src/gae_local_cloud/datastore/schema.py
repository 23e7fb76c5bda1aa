"""The SQLite tables of the Datastore server."""

MIGRATIONS: tuple[str, ...] = (
    """
    -- Partitions are numbered, so that rows do not repeat their names.
    CREATE TABLE partitions (
        id INTEGER PRIMARY KEY,
        project TEXT NOT NULL,
        "database" TEXT NOT NULL,
        namespace TEXT NOT NULL,
        UNIQUE (project, "database", namespace)
    );

    -- The entities as they are now. path: keys.encode_path; version, created: microseconds since the epoch;
    -- entity: a serialized google.datastore.v1.Entity without its key, which the row has.
    CREATE TABLE entities (
        id INTEGER PRIMARY KEY,
        partition INTEGER NOT NULL REFERENCES partitions (id),
        path BLOB NOT NULL,
        version INTEGER NOT NULL,
        created INTEGER NOT NULL,
        entity BLOB NOT NULL,
        UNIQUE (partition, path)
    );

    -- The state of an entity before the commit of a version (entity is NULL if it did not exist). Reads at an earlier
    -- time undo the later commits with it.
    CREATE TABLE undo (
        id INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        partition INTEGER NOT NULL REFERENCES partitions (id),
        path BLOB NOT NULL,
        old_version INTEGER,
        old_created INTEGER,
        entity BLOB
    );
    CREATE INDEX undo_by_version ON undo (version);
    CREATE INDEX undo_by_path ON undo (partition, path, version);

    -- The indexes of each kind: by key (no property), by one property, or composite.
    -- properties: JSON, a list of [name, is descending].
    CREATE TABLE indexes (
        id INTEGER PRIMARY KEY,
        partition INTEGER NOT NULL REFERENCES partitions (id),
        kind TEXT NOT NULL,
        ancestor INTEGER NOT NULL,
        properties TEXT NOT NULL,
        ready INTEGER NOT NULL,
        UNIQUE (partition, kind, ancestor, properties)
    );

    -- The contents of the indexes. key: for an ancestor index the path of the entity or of one of its ancestors, then
    -- the encoded value of each property, then the entity's path. many: whether the entity has other entries in the
    -- same index.
    CREATE TABLE entries (
        "index" INTEGER NOT NULL,
        key BLOB NOT NULL,
        entity INTEGER NOT NULL,
        many INTEGER NOT NULL,
        PRIMARY KEY ("index", key)
    ) WITHOUT ROWID;

    -- Keys that automatic ids skip.
    CREATE TABLE reserved (
        partition INTEGER NOT NULL REFERENCES partitions (id),
        path BLOB NOT NULL,
        PRIMARY KEY (partition, path)
    ) WITHOUT ROWID;

    -- The number of automatic ids allocated, in blocks.
    CREATE TABLE allocation (allocated INTEGER NOT NULL);
    INSERT INTO allocation VALUES (0);
    """,
    """
    -- The counts that statistics are sums of: of the entities of a kind (root or not), of the values of a property (by
    -- type), and of the entries in a composite index (by its id). Commits keep them up to date.
    CREATE TABLE tallies (
        partition INTEGER NOT NULL,
        kind TEXT NOT NULL,
        root INTEGER NOT NULL,
        property TEXT NOT NULL,
        type TEXT NOT NULL,
        composite INTEGER NOT NULL,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        index_bytes INTEGER NOT NULL,
        index_count INTEGER NOT NULL,
        PRIMARY KEY (partition, kind, root, property, type, composite)
    ) WITHOUT ROWID;

    -- Whether the tallies include the entities stored before this table existed.
    CREATE TABLE tallied (complete INTEGER NOT NULL);
    INSERT INTO tallied SELECT NOT EXISTS (SELECT * FROM entities);
    """,
)
"""The scripts that create and upgrade the database, for :class:`gae_local_cloud.storage.Database`."""
