//! The demo: two systems with accounts that differ, a plan, its approval, and both kept equal while people edit both
//! sides. Uses what every run uses. Whatever it started ends with it, and its folder goes.

mod accounts;
mod database;
mod databases;
mod hosted;
mod org;
mod sales;
mod server;
mod view;
mod watcher;

use crate::ageing::Retention;
use crate::answers::review::Item;
use crate::answers::verified::Verified;
use crate::approval;
use crate::cli::Context;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::patience;
use crate::setup;
use crate::supervise::{self, Supervision};
use crate::waiting;
use concord_engine::clock::SystemClock;
use concord_engine::error::{Code, Error, Result};
use concord_engine::runtime::status::Status;
use concord_engine::store::Store;
use concord_engine::verify::SyncVerification;
use databases::Databases;
use hosted::Hosted;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use view::View;
use watcher::Watcher;

/// How often people edit.
const EDIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often both sides are compared.
const VERIFY_INTERVAL: Duration = Duration::from_secs(4);
/// The most items of the review that are told of at a time.
const TOLD_MAX: usize = 5;
/// The longest wait for both sides to become level at the end.
const LEVEL_MAX: Duration = Duration::from_secs(30);

/// What is kept equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pair {
    /// The accounts of a Salesforce org, a simulated one, and a table in PostgreSQL.
    Salesforce,
    /// Tables of different shape in two PostgreSQL databases.
    Postgres,
}

/// How the demo is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What is kept equal.
    pub pair: Pair,
    /// SQLite in PostgreSQL's place, even where PostgreSQL's server is installed.
    pub sqlite: bool,
    /// How long it edits; `None`: until Ctrl-C.
    pub lasts: Option<Duration>,
}

/// A folder that goes with the value, or with the process.
struct Folder {
    path: PathBuf,
    /// Dropped once the folder is gone.
    _watcher: Option<Watcher>,
}

impl Folder {
    fn make() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("concord-demo-{}", std::process::id()));
        let unusable = |error| {
            Error::new(Code::FileUnusable, "the demo's folder cannot be made").at(path.display().to_string()).because(error)
        };
        std::fs::create_dir(&path).map_err(unusable)?;
        Ok(Folder { _watcher: Watcher::over(&path), path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Writes a file that its owner alone may read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        Error::new(Code::FileUnusable, "a secret of the demo cannot be written").at(path.display().to_string()).because(error)
    })
}

/// The two sides, whatever they are.
enum Sides {
    Hosted(Box<Hosted>),
    Databases(Box<Databases>),
}

impl Sides {
    async fn open(wanted: Wanted, folder: &Path, view: &View<'_>) -> Result<Sides> {
        Ok(match wanted.pair {
            Pair::Salesforce => Sides::Hosted(Box::new(Hosted::open(wanted.sqlite, folder, view).await?)),
            Pair::Postgres => Sides::Databases(Box::new(Databases::open(wanted.sqlite, folder, view).await?)),
        })
    }

    fn configuration(&self, folder: &Path) -> serde_json::Value {
        match self {
            Sides::Hosted(pair) => pair.configuration(folder),
            Sides::Databases(pair) => pair.configuration(folder),
        }
    }

    /// People edit both sides. Returns what is worth telling.
    async fn edit(&self, turn: u64) -> Result<Vec<String>> {
        match self {
            Sides::Hosted(pair) => pair.edit(turn).await,
            Sides::Databases(pair) => pair.edit(turn).await.map(|()| Vec::new()),
        }
    }
}

/// When the demo is to end.
#[derive(Clone, Default)]
struct Stop {
    /// In good order, with both sides level.
    soon: CancellationToken,
    /// Without waiting for anything but the end of what was started.
    now: CancellationToken,
}

impl Stop {
    /// Ctrl-C, the end of the terminal, a service manager: once for `soon`, twice for `now`. Never ends by itself.
    async fn on_signal(&self) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let unable = |error| Error::new(Code::Internal, "signals cannot be listened to").because(error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unable)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unable)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(unable)?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            if self.soon.is_cancelled() {
                self.now.cancel();
            }
            self.soon.cancel();
        }
    }
}

/// Runs the demo to its end.
pub async fn run(wanted: Wanted, context: &Context) -> Result<Exit> {
    let stop = Stop::default();
    let folder = Folder::make()?;
    tokio::select! {
        exit = show(wanted, context, &folder.path, &stop) => exit,
        error = stop.on_signal() => error.map(|()| Exit::Failure),
    }
}

async fn show(wanted: Wanted, context: &Context, folder: &Path, stop: &Stop) -> Result<Exit> {
    let view = View::new(context);
    let sides = Sides::open(wanted, folder, &view).await?;
    let file = folder.join("accounts.json");
    let text = serde_json::to_string_pretty(&sides.configuration(folder)).unwrap_or_default();
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
        patience: Duration::from_secs(patience::USUAL_SECS),
        door: Some(control::open(&store_folder, None)?),
        metrics: None,
        retention: Retention::everywhere(Duration::from_secs(24 * 3600)),
        // The live view shows it.
        shows_progress: false,
        let_alone: waiting::LET_ALONE,
    };
    // The engine outlives the edits: what they left is carried over before it ends.
    let stop_engine = CancellationToken::new();
    let live = async {
        let result = live(wanted, &sides, &view, &store_folder, stop).await;
        stop_engine.cancel();
        result
    };
    let (ran, verified) = tokio::join!(supervise::run(supervision, stop_engine.clone()), live);
    ran?;
    let Some(verified) = verified? else {
        drop(sides);
        view.cut_short();
        return Ok(Exit::Failure);
    };
    let is_equal = verified.syncs.iter().all(SyncVerification::is_equal);
    view.end(&verified, is_equal);
    drop(sides);
    Ok(if is_equal { Exit::Fine } else { Exit::Failure })
}

/// Edits, looks and compares until it is time to end; then waits until both sides are level and compares once more.
/// `None`: it was asked not to wait.
async fn live(wanted: Wanted, sides: &Sides, view: &View<'_>, folder: &Path, stop: &Stop) -> Result<Option<Verified>> {
    let enough = async {
        match wanted.lasts {
            Some(lasts) => tokio::time::sleep(lasts).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        tokio::try_join!(edit(sides, view), watch(view, folder), compare(view, folder), show_refusals(view, folder))?;
        Ok::<(), Error>(())
    };
    tokio::select! {
        () = enough => {}
        () = stop.soon.cancelled() => {}
        result = work => result?,
    }
    tokio::select! {
        verified = level(view, folder) => verified.map(Some),
        () = stop.now.cancelled() => Ok(None),
    }
}

/// Waits until both sides are level, and compares them.
async fn level(view: &View<'_>, folder: &Path) -> Result<Verified> {
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

async fn edit(sides: &Sides, view: &View<'_>) -> Result<()> {
    let mut turn = 0;
    // The first run reads both sides first.
    loop {
        tokio::time::sleep(EDIT_INTERVAL).await;
        for told in sides.edit(turn).await? {
            view.tell(&told);
        }
        turn += 1;
    }
}

/// Tells of what waits for a person, each once.
async fn show_refusals(view: &View<'_>, folder: &Path) -> Result<()> {
    let mut known = 0;
    loop {
        tokio::time::sleep(EDIT_INTERVAL).await;
        let mut items: Vec<Item> = ask(folder, &Ask::ReviewList { sync: None, all: false, limit: TOLD_MAX }).await?;
        items.retain(|item| item.id > known);
        items.sort_by_key(|item| item.id);
        for item in items {
            known = item.id;
            view.tell(&format!("Waits for a person ({}): {}", item.code, item.message));
        }
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
    ask(folder, &Ask::Verify { sync: None, syncs: Vec::new(), repair: false }).await
}
