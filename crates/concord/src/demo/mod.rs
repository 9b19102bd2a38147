//! The demo: two databases with accounts that differ, a plan, its approval, and both kept equal while people edit both
//! sides. Uses what every run uses. Whatever it started ends with it, and its folder goes.

mod accounts;
mod server;
mod sides;
mod view;

use crate::answers::verified::Verified;
use crate::approval;
use crate::cli::Context;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::setup;
use crate::supervise::{self, Supervision};
use crate::terminal::Style;
use concord_engine::clock::SystemClock;
use concord_engine::error::{Code, Error, Result};
use concord_engine::runtime::status::Status;
use concord_engine::store::Store;
use concord_engine::verify::SyncVerification;
use serde_json::json;
use sides::Sides;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use view::View;

/// How often people edit.
const EDIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often both sides are compared.
const VERIFY_INTERVAL: Duration = Duration::from_secs(4);
/// The longest wait for both sides to become level at the end.
const LEVEL_MAX: Duration = Duration::from_secs(30);

/// How the demo is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Two SQLite files, even where PostgreSQL's server is installed.
    pub sqlite: bool,
    /// How long it edits; `None`: until Ctrl-C.
    pub lasts: Option<Duration>,
}

/// A folder that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("concord-demo-{}", std::process::id()));
        let unusable = |error| {
            Error::new(Code::FileUnusable, "the demo's folder cannot be made").at(path.display().to_string()).because(error)
        };
        std::fs::create_dir(&path).map_err(unusable)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the demo to its end.
pub async fn run(wanted: Wanted, context: &Context) -> Result<Exit> {
    let shutdown = CancellationToken::new();
    let folder = Folder::make()?;
    let stopped = supervise::on_signal(shutdown.clone());
    let shown = show(wanted, context, &folder.0, &shutdown);
    tokio::select! {
        exit = shown => exit,
        error = stopped => error.map(|()| Exit::Failure),
    }
}

async fn show(wanted: Wanted, context: &Context, folder: &Path, shutdown: &CancellationToken) -> Result<Exit> {
    let view = View::new(context);
    let sides = Sides::open(wanted.sqlite, folder, &view).await?;
    let file = folder.join("accounts.json");
    let text = serde_json::to_string_pretty(&configuration(&sides, folder)).unwrap_or_default();
    std::fs::write(&file, &text)
        .map_err(|error| Error::new(Code::FileUnusable, "the configuration cannot be written").because(error))?;
    view.step(&format!("The configuration ({}):", file.display()));
    view.quote(&text);
    let written = setup::read(&[file]).map_err(|notices| {
        context.complain_all(&notices);
        Error::new(Code::Internal, "the demo's configuration has mistakes")
    })?;
    let store_folder = folder.join("store");
    let store = setup::open_store(&store_folder)?;
    let systems = setup::open_systems(&written.config, store.clone(), &store_folder, setup::Keeping::Renewed).await?;
    let prepared = setup::prepare(&written, &*store, &systems).await?;
    if let Some((_, error)) = prepared.refused.first().or(prepared.waiting.first()) {
        context.complain_all(&prepared.notices);
        return Err(error.clone());
    }
    let plan = approval::make(&prepared, &*store, &SystemClock).await?;
    approval::keep(&*store, &plan).await?;
    view.step("The plan of the first run; nothing has been written yet:");
    view.quote(&crate::cli::render_plan(&plan, &context.terminal));
    view.step(&format!("Approved ({}). Both sides are edited every second from here on; Ctrl-C ends it.", plan.id));
    let supervision = Supervision {
        written,
        store: Arc::clone(&store) as Arc<dyn Store>,
        folder: store_folder.clone(),
        prepared,
        approve_all: false,
        plan: Some(plan.id),
        once: false,
        door: Some(control::open(&store_folder, None)?),
        metrics: None,
        retention: Duration::from_secs(24 * 3600),
    };
    // The engine outlives the edits: what they left is carried over before it ends.
    let stop_engine = CancellationToken::new();
    let live = async {
        let result = live(wanted, &sides, &view, &store_folder, shutdown).await;
        stop_engine.cancel();
        result
    };
    let (ran, verified) = tokio::join!(supervise::run(supervision, stop_engine.clone()), live);
    ran?;
    let verified = verified?;
    let is_equal = verified.syncs.iter().all(SyncVerification::is_equal);
    view.end(&verified, is_equal);
    drop(sides);
    Ok(if is_equal { Exit::Fine } else { Exit::Failure })
}

/// Edits, looks and compares until it is time to end; then waits until both sides are level and compares once more.
async fn live(wanted: Wanted, sides: &Sides, view: &View<'_>, folder: &Path, shutdown: &CancellationToken) -> Result<Verified> {
    let enough = async {
        match wanted.lasts {
            Some(lasts) => tokio::time::sleep(lasts).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        tokio::try_join!(edit(sides), watch(view, folder), compare(view, folder))?;
        Ok::<(), Error>(())
    };
    tokio::select! {
        () = enough => {}
        () = shutdown.cancelled() => {}
        result = work => result?,
    }
    let levelled = async {
        loop {
            let status = status(folder).await?;
            view.show(&status);
            if status.syncs.iter().all(|sync| sync.level) {
                return Ok::<(), Error>(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let levelled = tokio::time::timeout(LEVEL_MAX, levelled).await;
    levelled.map_err(|_| Error::new(Code::Internal, "both sides did not become level in time"))??;
    verify(folder).await
}

async fn edit(sides: &Sides) -> Result<()> {
    let mut turn = 0;
    loop {
        tokio::time::sleep(EDIT_INTERVAL).await;
        sides.edit(turn).await?;
        turn += 1;
    }
}

async fn watch(view: &View<'_>, folder: &Path) -> Result<()> {
    loop {
        view.show(&status(folder).await?);
        tokio::time::sleep(view.interval()).await;
    }
}

async fn compare(view: &View<'_>, folder: &Path) -> Result<()> {
    loop {
        tokio::time::sleep(VERIFY_INTERVAL).await;
        view.verified(&verify(folder).await?);
    }
}

/// Asks the engine of this very process, the way every command does.
async fn ask<T: serde::de::DeserializeOwned>(folder: &Path, question: &Ask) -> Result<T> {
    let gone = || Error::new(Code::ControlFailed, "the engine does not answer");
    let answer = control::ask(folder, question).await?.ok_or_else(gone)?;
    serde_json::from_value(answer).map_err(|error| gone().because(error))
}

async fn status(folder: &Path) -> Result<Status> {
    ask(folder, &Ask::Status).await
}

async fn verify(folder: &Path) -> Result<Verified> {
    ask(folder, &Ask::Verify { sync: None, repair: false }).await
}

fn configuration(sides: &Sides, folder: &Path) -> serde_json::Value {
    let (crm, erp) = sides.connections(folder);
    json!({
        "name": "accounts",
        "connections": { "crm": crm, "erp": erp },
        "sync_type": "bidirectional",
        "source": { "system": "crm", "object": "accounts" },
        "target": { "system": "erp", "object": "customers" },
        "match_on": ["email"],
        "field_mappings": [
            { "source": "name", "target": "company" },
            { "source": "email", "target": "contact_email", "transformation": "lowercase" },
            { "source": "phone", "target": "tel" },
            { "source": "street", "target": "street", "group": "address" },
            { "source": "city", "target": "town", "group": "address" },
            { "source": "country", "target": "country", "group": "address" },
            { "source": "credit_limit", "target": "credit" },
            { "source": "status", "target": "state", "transformation": { "map": { "active": "A", "inactive": "I", "prospect": "P" } } }
        ],
        "initial_sync": { "authority": "crm" },
        "conflict_resolution": {
            "strategy": "last_write_wins",
            "field_rules": [{ "field": "credit_limit", "priority_system": "erp" }],
            "delete_vs_update": "update_wins"
        }
    })
}

/// Says which databases are used.
fn announce(view: &View<'_>, what: &str) {
    view.step(&view.paint(Style::Strong, what));
}
