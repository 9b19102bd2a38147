//! Who is measured one way: Concord's mirror mode, what a bulk loader does by hand, PostgreSQL's own logical replication, pglogical, and
//! programs that only load (`programs.rs`). Each knows how to load, to be away, to come back and to leave nothing behind.

use super::programs::{self, is_installed};
use super::{BARE, DATABASE, INDEXES, Size, wait};
use crate::Result;
use crate::measure::Places;
use crate::process::{Kept, Start};
use crate::server::{Server, has_pglogical};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_postgres::Client;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    Mirror,
    CopyOne,
    CopyTwo,
    Native,
    Pglogical,
    /// Concord, allowed to build the secondary index behind the load.
    MirrorThenIndex,
    /// Two ranges into a table without indexes, then both indexes side by side.
    CopyThenIndexes,
    Restore,
    PgCopyDb,
    Sling,
}

impl Contender {
    /// Concord, one of whom does each work.
    pub const OURS: [Contender; 2] = [Contender::Mirror, Contender::MirrorThenIndex];

    /// All that are installed here.
    pub fn here() -> Vec<Contender> {
        use Contender::{
            CopyOne, CopyThenIndexes, CopyTwo, Mirror, MirrorThenIndex, Native, PgCopyDb, Pglogical, Restore, Sling,
        };
        let mut all =
            vec![Mirror, CopyOne, CopyTwo, Native, Pglogical, Sling, MirrorThenIndex, CopyThenIndexes, Restore, PgCopyDb];
        all.retain(|contender| match contender {
            Pglogical => has_pglogical(),
            PgCopyDb => is_installed(programs::PGCOPYDB),
            Sling => is_installed(programs::SLING),
            _ => true,
        });
        all
    }

    pub fn name(self) -> &'static str {
        match self {
            Contender::Mirror => "Concord, mirror mode",
            Contender::CopyOne => "COPY pipe",
            Contender::CopyTwo => "COPY pipe, two ranges",
            Contender::Native => "PostgreSQL's own",
            Contender::Pglogical => "pglogical",
            Contender::MirrorThenIndex => "Concord, `rebuild_indexes`",
            Contender::CopyThenIndexes => "COPY pipe, two ranges, then two indexes",
            Contender::Restore => "pg_dump, pg_restore",
            Contender::PgCopyDb => "pgcopydb, two jobs",
            Contender::Sling => "sling",
        }
    }

    /// The load that it does: into a table that has its indexes, or into one that gets them afterwards.
    pub fn load(self) -> &'static str {
        match self {
            Contender::MirrorThenIndex | Contender::CopyThenIndexes | Contender::Restore | Contender::PgCopyDb => {
                "full load, indexes afterwards"
            }
            _ => "full load",
        }
    }

    pub fn streams(self) -> bool {
        matches!(self, Contender::Mirror | Contender::Native | Contender::Pglogical)
    }

    /// Whether it works inside the servers.
    pub fn is_inside(self) -> bool {
        matches!(self, Contender::Native | Contender::Pglogical)
    }
}

/// A contender at work, gone with the value.
pub struct Running {
    pub contender: Contender,
    folder: tempfile::TempDir,
    process: Option<Kept>,
}

impl Running {
    /// Everything that is there before it begins to load.
    pub async fn prepare(contender: Contender, places: &Places, servers: [&Server; 2]) -> Result<Running> {
        let [left, right] = servers;
        let (source, target) = (left.session().await?, right.session().await?);
        match contender {
            Contender::Restore | Contender::PgCopyDb => {}
            Contender::CopyThenIndexes => target.batch_execute(BARE).await?,
            _ => target.batch_execute(&format!("{BARE}; {}", INDEXES.join("; "))).await?,
        }
        if contender == Contender::Pglogical {
            for (session, server, name) in [(&source, left, "source"), (&target, right, "target")] {
                let sql = format!("CREATE EXTENSION pglogical; SELECT pglogical.create_node('{name}', '{}')", address(server));
                session.batch_execute(&sql).await?;
            }
            source.batch_execute("SELECT pglogical.replication_set_add_table('default', 'items')").await?;
        }
        let folder = tempfile::Builder::new().prefix("concord-bench-").tempdir_in(&places.directory)?;
        Ok(Running { contender, folder, process: None })
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Kept::pid)
    }

    pub async fn load(&mut self, places: &Places, [left, right]: [&Server; 2], size: &Size) -> Result<()> {
        match self.contender {
            Contender::CopyOne => copy([left, right], None, None).await,
            Contender::CopyTwo | Contender::CopyThenIndexes => {
                let half = Some(size.rows / 2);
                tokio::try_join!(copy([left, right], None, half), copy([left, right], half, None))?;
                if self.contender == Contender::CopyThenIndexes {
                    let (one, other) = (right.session().await?, right.session().await?);
                    // A primary key locks the table for itself: the index first, which does not.
                    let key = "CREATE UNIQUE INDEX items_pkey ON items (id)";
                    tokio::try_join!(one.batch_execute(key), other.batch_execute(INDEXES[1]))?;
                    one.batch_execute("ALTER TABLE items ADD PRIMARY KEY USING INDEX items_pkey").await?;
                }
                Ok(())
            }
            Contender::Native => {
                let sql = format!("CREATE SUBSCRIPTION native CONNECTION '{}' PUBLICATION native", address(left));
                Ok(right.session().await?.batch_execute(&sql).await?)
            }
            Contender::Pglogical => {
                let sql = format!(
                    "SELECT pglogical.create_subscription('bench', '{}', ARRAY['default'], false, true, '{{}}')",
                    address(left)
                );
                Ok(right.session().await?.batch_execute(&sql).await?)
            }
            Contender::Restore | Contender::PgCopyDb | Contender::Sling => {
                let work = match self.contender {
                    Contender::Restore => programs::restore,
                    Contender::PgCopyDb => programs::pgcopydb,
                    _ => programs::sling,
                };
                let (from, into, folder) = (url(left), url(right), self.folder.path().to_owned());
                tokio::task::spawn_blocking(move || work(&from, &into, &folder)).await?
            }
            Contender::Mirror | Contender::MirrorThenIndex => {
                let file = self.folder.path().join("sync.json");
                std::fs::write(&file, configuration([left, right].map(Server::port), size.parallelism, self.contender))?;
                self.start(places)
            }
        }
    }

    fn start(&mut self, places: &Places) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let words = [
            places.concord.to_string_lossy().into_owned(),
            "run".into(),
            path("sync.json"),
            "--auto-approve".into(),
            "--store".into(),
            path("store"),
        ];
        let log = self.folder.path().join("log");
        let start = Start { words: &words, log: &log, signal: "TERM", rubbish: None, as_server: false };
        self.process = Some(Kept::start(&start)?);
        Ok(())
    }

    /// Waits until changes are carried as they come.
    pub async fn settled(&self, target: &Client) -> Result<()> {
        let sql = match self.contender {
            Contender::Native => "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel",
            Contender::Pglogical => "SELECT status = 'replicating' FROM pglogical.show_subscription_status('bench')",
            _ => return Ok(()),
        };
        let is_settled = async || Ok(target.query_one(sql, &[]).await?.try_get::<_, Option<bool>>(0)? == Some(true));
        wait(is_settled, "the first sync").await
    }

    /// Goes away, and comes back.
    pub async fn away(&mut self, servers: [&Server; 2], away: bool, places: &Places) -> Result<()> {
        match (self.contender, away) {
            (Contender::Mirror, true) => self.process = None,
            (Contender::Mirror, false) => self.start(places)?,
            (Contender::Pglogical, away) => {
                let word = if away { "disable" } else { "enable" };
                let sql = format!("SELECT pglogical.alter_subscription_{word}('bench', true)");
                servers[1].session().await?.batch_execute(&sql).await?;
            }
            (_, away) => {
                let word = if away { "DISABLE" } else { "ENABLE" };
                servers[1].session().await?.batch_execute(&format!("ALTER SUBSCRIPTION native {word}")).await?;
            }
        }
        if away {
            let source = servers[0].session().await?;
            let sql = "SELECT count(*) = 0 FROM pg_replication_slots WHERE active";
            wait(async || Ok(source.query_one(sql, &[]).await?.try_get(0)?), "the stream").await?;
        }
        Ok(())
    }

    /// Leaves nothing at the source.
    pub async fn end(mut self, [left, right]: [&Server; 2]) -> Result<()> {
        self.process = None;
        if self.contender == Contender::Native {
            right.session().await?.batch_execute("DROP SUBSCRIPTION native").await?;
        }
        if self.contender == Contender::PgCopyDb {
            // It copies the source's publication as well.
            right.session().await?.batch_execute("DROP PUBLICATION IF EXISTS native").await?;
        }
        if self.contender == Contender::Pglogical {
            let target = right.session().await?;
            target.batch_execute("SELECT pglogical.drop_subscription('bench'); SELECT pglogical.drop_node('target')").await?;
        }
        let source = left.session().await?;
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
        let idle = "SELECT count(*) = 0 FROM pg_replication_slots WHERE active";
        wait(async || Ok(source.query_one(idle, &[]).await?.try_get(0)?), "the stream").await?;
        source.query(sql, &[]).await?;
        if self.contender == Contender::Pglogical {
            source.batch_execute("SELECT pglogical.drop_node('source')").await?;
            // Its schema outlives it, and would stand in the way of whoever copies the whole database.
            let gone = "DROP EXTENSION pglogical CASCADE; DROP SCHEMA IF EXISTS pglogical CASCADE";
            let target = right.session().await?;
            tokio::try_join!(source.batch_execute(gone), target.batch_execute(gone))?;
        }
        let own = source.query("SELECT pubname::text FROM pg_publication WHERE pubname <> 'native'", &[]).await?;
        for row in own {
            source.batch_execute(&format!("DROP PUBLICATION {}", row.try_get::<_, String>(0)?)).await?;
        }
        Ok(())
    }
}

/// What a bulk loader does: one connection's COPY into another's.
async fn copy([left, right]: [&Server; 2], from: Option<i32>, below: Option<i32>) -> Result<()> {
    let (source, target) = (left.session().await?, right.session().await?);
    let condition = match (from, below) {
        (None, None) => String::new(),
        (from, below) => {
            format!(" WHERE id >= {} AND id < {}", from.unwrap_or(i32::MIN), below.unwrap_or(i32::MAX))
        }
    };
    let rows = source.copy_out(&format!("COPY (SELECT * FROM items{condition}) TO STDOUT (FORMAT binary)")).await?;
    let sink = target.copy_in("COPY items FROM STDIN (FORMAT binary)").await?;
    futures_util::pin_mut!(rows, sink);
    while let Some(row) = rows.next().await {
        sink.feed(row?).await?;
    }
    sink.finish().await?;
    Ok(())
}

fn url(server: &Server) -> String {
    format!("postgres://postgres@127.0.0.1:{}/{DATABASE}?sslmode=disable", server.port())
}

fn address(server: &Server) -> String {
    format!("host=127.0.0.1 port={} dbname={DATABASE} user=postgres", server.port())
}

/// One one-way sync of the table; everything else stays as it is out of the box.
fn configuration(ports: [u16; 2], parallelism: u32, contender: Contender) -> String {
    let connection = |port: u16| {
        serde_json::json!({
            "type": "postgres",
            "credentials": { "host": "127.0.0.1", "port": port, "database": DATABASE, "username": "postgres", "sslmode": "disable" },
        })
    };
    let [left, right] = ports.map(connection);
    let written = serde_json::json!({
        "connection_name": "items",
        "connections": { "left": left, "right": right },
        "source": { "system": "left", "table": "items" },
        "target": { "system": "right", "table": "items" },
        "sync_type": "one_way",
        "match_on": ["id"],
        "initial_sync": { "rebuild_indexes": contender == Contender::MirrorThenIndex },
        "performance_settings": { "parallelism": parallelism },
    });
    format!("{written:#}")
}
