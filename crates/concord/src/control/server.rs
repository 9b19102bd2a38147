//! The side of the process that runs: opens the socket, hands each question to whoever answers, removes the socket.
//! Knows nothing of what is asked. A conversation that breaks off harms nobody else's.

use super::{Ask, CONVERSATIONS_MAX, LINE_BYTES_MAX, Reply, SOCKET, SOCKET_PATH_BYTES_MAX, failed, pointer};
use concord_engine::error::{Code, Error, Result};
use std::future::Future;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The open socket. Dropping it removes the socket and the pointer to it.
pub struct Door {
    listener: UnixListener,
    socket: PathBuf,
    pointer: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pointer);
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Opens the socket: at `wanted`, or in the store's folder, or where that path is too long for a socket in the
/// folder for temporary files. The caller holds the store's lock, so a socket that is there is a dead process's.
pub fn open(folder: &Path, wanted: Option<&Path>) -> Result<Door> {
    let mut socket = wanted.map_or_else(|| folder.join(SOCKET), Path::to_path_buf);
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        socket = std::env::temp_dir().join(format!("concord-{}.sock", std::process::id()));
    }
    let at = socket.display().to_string();
    make_room(&socket).map_err(|error| error.at(&at))?;
    let listener = UnixListener::bind(&socket).map_err(|error| unopened(error).at(&at))?;
    let pointer = pointer(folder);
    let door = Door { listener, socket, pointer };
    std::fs::set_permissions(&door.socket, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::write(&door.pointer, door.socket.as_os_str().as_encoded_bytes()))
        .map_err(|error| unopened(error).at(&at))?;
    Ok(door)
}

/// The socket lies beside the store: where there is no space for it, there is none for the store.
fn unopened(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull => Error::new(Code::StoreFull, "the disk that holds the store is full").because(error),
        _ => failed("the control socket cannot be opened", error),
    }
}

/// Removes the socket that a dead process left. A socket at which somebody answers is another installation's, and what is no
/// socket is somebody's file: neither is ours to remove.
fn make_room(socket: &Path) -> Result<()> {
    let Ok(found) = std::fs::symlink_metadata(socket) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Error::new(Code::ControlFailed, "the control socket cannot be opened: there is a file of that name"));
    }
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        let message =
            "the control socket cannot be opened: another process answers there; give each `control_socket` its own path";
        return Err(Error::new(Code::ControlFailed, message));
    }
    std::fs::remove_file(socket).map_err(|error| failed("the control socket of a process that ended cannot be removed", error))
}

/// How long answers that are under way may still take when the process stops: the answer to a release comes just then.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(2);

/// Answers until told to stop. What is being answered then is given a moment; longer conversations are ended: a question
/// that changes something is durable when it is answered, and asked again when it was not.
pub async fn serve<A, F>(door: Door, answer: A, shutdown: CancellationToken)
where
    A: Fn(Ask) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<serde_json::Value>> + Send,
{
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = conversations.join_next() => {}
            accepted = door.listener.accept(), if conversations.len() < CONVERSATIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let (answer, shutdown) = (answer.clone(), shutdown.clone());
                    conversations.spawn(async move { converse(stream, answer, shutdown).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "a control connection could not be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
        }
    }
    let last_answers = async { while conversations.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS_MAX, last_answers).await.is_err() {
        conversations.shutdown().await;
    }
}

async fn converse<A, F>(stream: UnixStream, answer: A, shutdown: CancellationToken)
where
    A: Fn(Ask) -> F,
    F: Future<Output = Result<serde_json::Value>>,
{
    let (reading, mut writing) = stream.into_split();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = String::new();
        let mut limited = (&mut reading).take(limit);
        let read = tokio::select! {
            read = limited.read_line(&mut line) => read,
            // Nobody is asked anything more.
            () = shutdown.cancelled() => return,
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let result = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => answer(ask).await,
            Err(error) => Err(Error::new(Code::ArgumentWrong, format!("not a question that this version knows: {error}"))),
        };
        let Ok(mut text) = serde_json::to_vec(&Reply::from(result)) else { return };
        text.push(b'\n');
        if writing.write_all(&text).await.is_err() {
            return;
        }
    }
}
