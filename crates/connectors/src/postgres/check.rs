//! What `check` says of the server: reach, settings, privileges and limits, each with the statement that helps.
//! It changes nothing, and it never stops at the first finding.

use super::check_objects;
use super::client::{Lease, column};
use super::names::quote;
use super::privileges::Lack;
use super::session::Session;
use super::{Shared, publication, slot};
use concord_engine::connector::{Finding, Involved, Severity};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::ObjectName;

/// Looks at everything.
pub async fn check(shared: &Shared, objects: &[ObjectName]) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    let mut lease = match shared.readers.lease().await {
        Ok(lease) => lease,
        Err(error) => {
            findings.failed("server", &error);
            return Ok(findings.all);
        }
    };
    let server = Server::read(&mut lease).await?;
    settings(&server, &mut findings);
    limits(shared, &mut lease, &server, &mut findings).await?;
    role(shared, &server, &mut findings).await;
    for object in objects {
        check_objects::check(shared, &mut lease, object, &mut findings).await?;
    }
    let there = publication::read(&mut lease, &shared.names.slot).await?;
    check_objects::check_publication(shared, &mut lease, there.as_ref(), objects, &mut findings).await?;
    lease.done();
    kept_log(shared, &server, &mut findings).await?;
    Ok(findings.all)
}

/// Looks at what stands in the way of writes. A server that cannot be reached has been found to be so.
pub async fn check_writes(shared: &Shared, objects: &[Involved]) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    let Ok(mut lease) = shared.readers.lease().await else { return Ok(findings.all) };
    for involved in objects.iter().filter(|involved| involved.writes.any()) {
        check_objects::writing(shared, &mut lease, involved, &mut findings).await?;
    }
    lease.done();
    Ok(findings.all)
}

/// What has been found so far.
#[derive(Default)]
pub struct Findings {
    all: Vec<Finding>,
}

impl Findings {
    /// Adds a finding with its remedy.
    pub fn add(&mut self, severity: Severity, code: Code, about: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let (message, remedy) = (message.into(), remedy.into());
        self.all.push(Finding { code: Some(code), about: about.to_owned(), message, remedy, severity });
    }

    /// Adds a privilege that is missing.
    pub fn lacking(&mut self, about: &str, lack: Lack) {
        self.add(lack.severity, Code::PrivilegeMissing, about, lack.message, lack.remedy);
    }

    /// Adds a plain statement of fact.
    pub fn fact(&mut self, about: &str, message: impl Into<String>) {
        let fact = Finding {
            code: None,
            about: about.to_owned(),
            message: message.into(),
            remedy: String::new(),
            severity: Severity::Fine,
        };
        self.all.push(fact);
    }

    /// Adds an error as what it is: a problem.
    pub fn failed(&mut self, about: &str, error: &Error) {
        // What is behind it tells a wrong host from a wrong port.
        let because = std::error::Error::source(error).map_or(String::new(), |source| format!(": {source}"));
        self.add(Severity::Problem, error.code, about, format!("{}{because}", error.message), error.code.remedy());
    }
}

/// What the server says of itself and of our role.
struct Server {
    version: i32,
    version_text: String,
    wal_level: String,
    standby: bool,
    role: String,
    may_replicate: bool,
    slots_max: i32,
    senders_max: i32,
    slots: i64,
    senders: i64,
    keep_limit: Option<i64>,
    idle_timeout: Option<i64>,
}

impl Server {
    async fn read(lease: &mut Lease<'_>) -> Result<Server> {
        // Managed servers give the right by membership of a role of their own.
        let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), current_setting('wal_level'), \
            pg_catalog.pg_is_in_recovery(), current_user::text, \
            EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = current_user AND (r.rolreplication OR r.rolsuper)) \
              OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname IN ('rds_replication', 'rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin') \
                AND pg_catalog.pg_has_role(r.oid, 'MEMBER')), \
            current_setting('max_replication_slots')::int4, current_setting('max_wal_senders')::int4, \
            (SELECT count(*) FROM pg_catalog.pg_replication_slots), (SELECT count(*) FROM pg_catalog.pg_stat_replication), \
            (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'), \
            (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout')";
        let row = lease.query_one(sql, &[], "asking for the server's settings").await?;
        Ok(Server {
            version: column(&row, 0)?,
            version_text: column(&row, 1)?,
            wal_level: column(&row, 2)?,
            standby: column(&row, 3)?,
            role: column(&row, 4)?,
            may_replicate: column(&row, 5)?,
            slots_max: column(&row, 6)?,
            senders_max: column(&row, 7)?,
            slots: column(&row, 8)?,
            senders: column(&row, 9)?,
            keep_limit: column(&row, 10)?,
            idle_timeout: column(&row, 11)?,
        })
    }
}

fn settings(server: &Server, findings: &mut Findings) {
    let problem = Severity::Problem;
    if server.version < 140_000 {
        let message = format!("PostgreSQL {} is older than 14", server.version_text);
        findings.add(problem, Code::Unsupported, "server", message, "Upgrade the server to PostgreSQL 14 or later.");
    } else {
        findings.fact("server", format!("PostgreSQL {}", server.version_text));
    }
    if server.standby {
        findings.add(problem, Code::SettingWrong, "server", "the server is a standby", "Connect to the primary.");
    }
    if server.wal_level != "logical" {
        let message = format!("wal_level is {}, but the log must be logical", server.wal_level);
        findings.add(
            problem,
            Code::SettingWrong,
            "wal_level",
            message,
            "ALTER SYSTEM SET wal_level = logical; -- then restart the server",
        );
    }
    if let Some(timeout) = server.idle_timeout.filter(|timeout| *timeout > 0) {
        let message =
            format!("the server invalidates slots that were idle for {timeout} seconds: an outage of Concord that long is a gap");
        let remedy = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();";
        findings.add(Severity::Warning, Code::SettingWrong, "idle_replication_slot_timeout", message, remedy);
    }
}

async fn limits(shared: &Shared, lease: &mut Lease<'_>, server: &Server, findings: &mut Findings) -> Result<()> {
    let ours = slot::state_in(lease, &shared.names.slot).await?;
    for (name, used, max) in
        [("max_replication_slots", server.slots, server.slots_max), ("max_wal_senders", server.senders, server.senders_max)]
    {
        if ours.is_none() && used >= i64::from(max) {
            let message = format!("all {max} are in use");
            let remedy = format!("ALTER SYSTEM SET {name} = {}; -- then restart the server", used.saturating_add(5));
            findings.add(Severity::Problem, Code::SettingWrong, name, message, remedy);
        }
    }
    Ok(())
}

/// Whether we may replicate: by the role's right, and by really opening such a session (`pg_hba.conf` may refuse it).
async fn role(shared: &Shared, server: &Server, findings: &mut Findings) {
    if !server.may_replicate {
        let message = format!("the role {} may not replicate", server.role);
        let remedy = format!("ALTER ROLE {} REPLICATION;", quote(&server.role));
        findings.add(Severity::Problem, Code::PrivilegeMissing, "role", message, remedy);
        return;
    }
    if server.wal_level != "logical" || server.standby {
        return;
    }
    match Session::connect(&shared.config, &shared.names.sessions).await {
        Ok(_) => findings.fact("role", format!("{} may replicate", server.role)),
        Err(error) => findings.failed("replication session", &error),
    }
}

/// How much log the server keeps for us.
async fn kept_log(shared: &Shared, server: &Server, findings: &mut Findings) -> Result<()> {
    match server.keep_limit {
        Some(limit) if limit >= 0 => {
            findings.fact(
                "max_slot_wal_keep_size",
                format!("the server keeps at most {limit} MB of log for a slot; an outage that needs more is a gap"),
            );
        }
        _ => {
            let message = "the server keeps log for a slot without limit: a long outage of Concord can fill its disk";
            let remedy =
                "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); -- as much as the disk can spare";
            findings.add(Severity::Advice, Code::SettingWrong, "max_slot_wal_keep_size", message, remedy);
        }
    }
    let mut lease = shared.readers.lease().await?;
    let state = slot::state_in(&mut lease, &shared.names.slot).await?;
    lease.done();
    let Some(state) = state else { return Ok(()) };
    if state.wal_status.as_deref() == Some("lost") {
        let message = format!("the replication slot {} is lost", shared.names.slot);
        findings.add(Severity::Problem, Code::FeedGap, "slot", message, Code::FeedGap.remedy());
    } else if let Some(warning) = slot::health(shared).await?.warning {
        findings.add(Severity::Warning, Code::FeedLagging, "slot", warning, Code::FeedLagging.remedy());
    }
    Ok(())
}
