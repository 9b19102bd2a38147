//! A contender at work: how each loads, is away, comes back and leaves nothing behind.

use super::contender::Contender;
use super::programs::{self, peer};
use super::upsert::{self, Batch};
use super::{BARE, COLUMNS, DATABASE, INDEXES, LAST, Size, wait};
use crate::Result;
use crate::measure::Places;
use crate::process::{Kept, Start};
use crate::server::Server;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_postgres::Client;

/// The slot of who only decodes, and Debezium's.
const SLOT: &str = "bench";

/// A contender at work, gone with the value.
pub struct Running {
    pub contender: Contender,
    folder: tempfile::TempDir,
    process: Option<Kept>,
    /// What is written when the outage is over.
    at_hand: Vec<Batch>,
}

impl Running {
    /// Everything that is there before it begins to load.
    pub async fn prepare(contender: Contender, places: &Places, servers: [&Server; 2]) -> Result<Running> {
        let [left, right] = servers;
        let (source, target) = (left.session().await?, right.session().await?);
        match contender {
            // They make the table themselves.
            Contender::Restore | Contender::PgCopyDb | Contender::Ingestr => {}
            Contender::CopyThenIndexes | Contender::Dlt => target.batch_execute(BARE).await?,
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
        Ok(Running { contender, folder, process: None, at_hand: Vec::new() })
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Kept::pid)
    }

    /// The end of what its process has said.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    pub async fn load(&mut self, places: &Places, [left, right]: [&Server; 2], size: &Size) -> Result<()> {
        match self.contender {
            Contender::CopyOne => copy([left, right], None, None).await,
            Contender::CopyTwo | Contender::UpsertOne | Contender::UpsertTwo => two_ranges([left, right], size).await,
            Contender::CopyThenIndexes => {
                two_ranges([left, right], size).await?;
                build_indexes(right).await
            }
            Contender::Decoding => {
                let sql = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
                left.session().await?.batch_execute(&sql).await?;
                two_ranges([left, right], size).await
            }
            Contender::Native | Contender::NativeNewer => {
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
            Contender::Debezium => {
                self.start(places, [left, right])?;
                let source = left.session().await?;
                let sql = "SELECT count(*) = 1 FROM pg_replication_slots WHERE active";
                wait(async || Ok(source.query_one(sql, &[]).await?.try_get(0)?), "Debezium's slot").await?;
                two_ranges([left, right], size).await
            }
            Contender::Restore | Contender::PgCopyDb | Contender::Sling | Contender::Dlt | Contender::Ingestr => {
                let work = match self.contender {
                    Contender::Restore => programs::restore,
                    Contender::PgCopyDb => programs::pgcopydb,
                    Contender::Dlt => programs::dlt,
                    Contender::Ingestr => programs::ingestr,
                    _ => programs::sling,
                };
                let (from, into, folder) = (url(left), url(right), self.folder.path().to_owned());
                tokio::task::spawn_blocking(move || work(&from, &into, &folder)).await??;
                match self.contender {
                    Contender::Dlt | Contender::Ingestr => build_indexes(right).await,
                    _ => Ok(()),
                }
            }
            Contender::Mirror | Contender::MirrorThenIndex => {
                let file = self.folder.path().join("sync.json");
                std::fs::write(&file, configuration([left, right].map(Server::port), size.parallelism, self.contender))?;
                self.start(places, [left, right])
            }
        }
    }

    fn start(&mut self, places: &Places, [left, right]: [&Server; 2]) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let words = match self.contender {
            Contender::Debezium => {
                let classes = peer(programs::DEBEZIUM).ok_or("Debezium is not installed")?;
                let classes = classes.parent().ok_or("Debezium has no folder")?.to_string_lossy().into_owned();
                let [from, into] = [left, right].map(|server| server.port().to_string());
                let search = format!("{classes}:{classes}/libs/*");
                ["java", "-cp", &search, "DebeziumSink", &from, &into, DATABASE, SLOT, &path("offsets")]
                    .map(str::to_owned)
                    .to_vec()
            }
            _ => {
                let concord = places.concord.to_string_lossy().into_owned();
                let rest = ["run".into(), path("sync.json"), "--auto-approve".into(), "--store".into(), path("store")];
                std::iter::once(concord).chain(rest).collect()
            }
        };
        let log = self.folder.path().join("log");
        let start = Start { words: &words, log: &log, signal: "TERM", rubbish: None, as_server: false };
        self.process = Some(Kept::start(&start)?);
        Ok(())
    }

    /// Waits until changes are carried as they come.
    pub async fn settled(&self, target: &Client) -> Result<()> {
        let sql = match self.contender {
            Contender::Native | Contender::NativeNewer => "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel",
            Contender::Pglogical => "SELECT status = 'replicating' FROM pglogical.show_subscription_status('bench')",
            _ => return Ok(()),
        };
        let is_settled = async || Ok(target.query_one(sql, &[]).await?.try_get::<_, Option<bool>>(0)? == Some(true));
        wait(is_settled, "the first sync").await
    }

    /// Goes away.
    pub async fn leave(&mut self, servers: [&Server; 2]) -> Result<()> {
        match self.contender {
            Contender::Mirror | Contender::Debezium => self.process = None,
            Contender::Pglogical => pglogical(servers, "disable").await?,
            Contender::Native | Contender::NativeNewer => native(servers, "DISABLE").await?,
            _ => return Ok(()),
        }
        let source = servers[0].session().await?;
        let sql = "SELECT count(*) = 0 FROM pg_replication_slots WHERE active";
        wait(async || Ok(source.query_one(sql, &[]).await?.try_get(0)?), "the stream").await
    }

    /// What it needs at hand before it comes back, after so many changes.
    pub async fn make_ready(&mut self, [left, _]: [&Server; 2], changes: i32, rows: i32) -> Result<()> {
        if matches!(self.contender, Contender::UpsertOne | Contender::UpsertTwo) {
            self.at_hand = upsert::at_hand(&left.session().await?, changes, rows).await?;
        }
        Ok(())
    }

    /// Comes back, and does what was to be done where that is not by itself.
    pub async fn come_back(&mut self, servers: [&Server; 2], places: &Places) -> Result<()> {
        match self.contender {
            Contender::Mirror | Contender::Debezium => self.start(places, servers),
            Contender::Pglogical => pglogical(servers, "enable").await,
            Contender::Native | Contender::NativeNewer => native(servers, "ENABLE").await,
            Contender::UpsertOne => upsert::write(servers[1], &self.at_hand, 1).await,
            Contender::UpsertTwo => upsert::write(servers[1], &self.at_hand, 2).await,
            Contender::Decoding => decode(servers[0], self.folder.path()).await,
            _ => Ok(()),
        }
    }

    /// Leaves nothing at the source.
    pub async fn end(mut self, [left, right]: [&Server; 2]) -> Result<()> {
        self.process = None;
        let target = right.session().await?;
        match self.contender {
            Contender::Native | Contender::NativeNewer => target.batch_execute("DROP SUBSCRIPTION native").await?,
            // It copies the source's publication as well.
            Contender::PgCopyDb => target.batch_execute("DROP PUBLICATION IF EXISTS native").await?,
            Contender::Dlt | Contender::Ingestr => target.batch_execute(programs::LEFT_BY_DLT).await?,
            Contender::Pglogical => {
                target.batch_execute("SELECT pglogical.drop_subscription('bench'); SELECT pglogical.drop_node('target')").await?;
            }
            _ => {}
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
            tokio::try_join!(source.batch_execute(gone), target.batch_execute(gone))?;
        }
        let own = source.query("SELECT pubname::text FROM pg_publication WHERE pubname <> 'native'", &[]).await?;
        for row in own {
            source.batch_execute(&format!("DROP PUBLICATION {}", row.try_get::<_, String>(0)?)).await?;
        }
        Ok(())
    }
}

async fn pglogical(servers: [&Server; 2], word: &str) -> Result<()> {
    let sql = format!("SELECT pglogical.alter_subscription_{word}('bench', true)");
    Ok(servers[1].session().await?.batch_execute(&sql).await?)
}

async fn native(servers: [&Server; 2], word: &str) -> Result<()> {
    Ok(servers[1].session().await?.batch_execute(&format!("ALTER SUBSCRIPTION native {word}")).await?)
}

/// Has everything decoded that the slot holds back. It is over when the first of a further transaction has been told.
async fn decode(left: &Server, folder: &std::path::Path) -> Result<()> {
    let source = left.session().await?;
    let upto: String = source.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.try_get(0)?;
    source.execute("UPDATE items SET tally = tally + 1 WHERE id = $1", &[&LAST]).await?;
    let (from, folder) = (url(left), folder.to_owned());
    tokio::task::spawn_blocking(move || programs::decode(&from, SLOT, &upto, &folder)).await?
}

async fn two_ranges(servers: [&Server; 2], size: &Size) -> Result<()> {
    let half = Some(size.rows / 2);
    tokio::try_join!(copy(servers, None, half), copy(servers, half, None))?;
    Ok(())
}

async fn build_indexes(right: &Server) -> Result<()> {
    let (one, other) = (right.session().await?, right.session().await?);
    // A primary key locks the table for itself: the index first, which does not.
    let key = "CREATE UNIQUE INDEX items_pkey ON items (id)";
    tokio::try_join!(one.batch_execute(key), other.batch_execute(INDEXES[1]))?;
    one.batch_execute("ALTER TABLE items ADD PRIMARY KEY USING INDEX items_pkey").await?;
    Ok(())
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
    let rows = source.copy_out(&format!("COPY (SELECT {COLUMNS} FROM items{condition}) TO STDOUT (FORMAT binary)")).await?;
    let sink = target.copy_in(&format!("COPY items ({COLUMNS}) FROM STDIN (FORMAT binary)")).await?;
    futures_util::pin_mut!(rows, sink);
    while let Some(row) = rows.next().await {
        sink.feed(row?).await?;
    }
    sink.finish().await?;
    Ok(())
}

/// Some ask for a password, which the server does not.
fn url(server: &Server) -> String {
    format!("postgresql://postgres:none@127.0.0.1:{}/{DATABASE}?sslmode=disable", server.port())
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
