//! The side of a command: finds the process that runs and asks it one thing.

use super::{ANSWER_WAIT_MAX, Ask, LINE_BYTES_MAX, Reply, failed, pointer};
use concord_engine::error::{Code, Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Asks the process that runs on the store in this folder; `None` when nothing runs there.
pub async fn ask(folder: &Path, ask: &Ask) -> Result<Option<serde_json::Value>> {
    let Some(stream) = connect(folder).await? else { return Ok(None) };
    let answer = tokio::time::timeout(ANSWER_WAIT_MAX, converse(stream, ask)).await;
    answer.map_err(|error| failed("the running process does not answer", error))?.map(Some)
}

async fn connect(folder: &Path) -> Result<Option<UnixStream>> {
    let path = match std::fs::read_to_string(pointer(folder)) {
        Ok(path) => PathBuf::from(path),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed("the control socket's place cannot be read", error).at(folder.display().to_string())),
    };
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Some(stream)),
        // What a killed process left behind.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(failed("the running process cannot be reached", error).at(path.display().to_string())),
    }
}

async fn converse(stream: UnixStream, ask: &Ask) -> Result<serde_json::Value> {
    let broken = |error: std::io::Error| failed("the conversation with the running process broke off", error);
    let (reading, mut writing) = stream.into_split();
    let mut question = serde_json::to_vec(ask).map_err(|error| failed("the question cannot be written down", error))?;
    question.push(b'\n');
    writing.write_all(&question).await.map_err(broken)?;
    let mut line = String::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    BufReader::new(reading).take(limit).read_line(&mut line).await.map_err(broken)?;
    if !line.ends_with('\n') && line.len() < LINE_BYTES_MAX {
        return Err(Error::new(Code::ControlFailed, "the running process stopped before it had answered"));
    }
    let reply: Reply =
        serde_json::from_str(&line).map_err(|error| failed("the running process gave an answer that cannot be read", error))?;
    reply.into()
}

#[cfg(test)]
mod tests {
    use super::super::{Decision, open, serve};
    use super::*;
    use tokio_util::sync::CancellationToken;

    async fn with_server<T>(work: impl AsyncFnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let door = open(folder.path(), None).unwrap();
        let stop = CancellationToken::new();
        let answer = |ask: Ask| async move {
            match ask {
                Ask::ReviewShow { id } => Ok(serde_json::json!({ "id": id })),
                other => Err(Error::new(Code::UnknownSync, format!("{other:?}")).at("here")),
            }
        };
        let server = serve(door, answer, stop.clone());
        let work = async {
            let result = work(folder.path()).await;
            stop.cancel();
            result
        };
        tokio::join!(server, work).1
    }

    #[tokio::test]
    async fn a_question_is_answered_by_the_process_that_runs() {
        let answer = with_server(async |folder| ask(folder, &Ask::ReviewShow { id: 7 }).await).await;
        assert_eq!(answer.unwrap().unwrap()["id"], 7);
    }

    #[tokio::test]
    async fn an_error_arrives_with_its_code_and_place() {
        let decide = Ask::ReviewDecide { id: 1, decision: Decision::Take { system: "crm".into() } };
        let error = with_server(async |folder| ask(folder, &decide).await).await.unwrap_err();
        assert_eq!(error.code, Code::UnknownSync);
        assert_eq!(error.at.as_deref(), Some("here"));
        assert!(error.message.contains("crm"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_stops_before_it_has_answered_is_said_to_have_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(pointer(folder.path()), socket.as_os_str().as_encoded_bytes()).unwrap();
        let stopping = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            BufReader::new(&mut stream).read_line(&mut asked).await.unwrap();
        };
        let error = tokio::join!(stopping, ask(folder.path(), &Ask::Status)).1.unwrap_err();
        assert!(error.code == Code::ControlFailed && error.message.contains("stopped before"), "{error}");
    }

    #[tokio::test]
    async fn nothing_runs_where_there_is_no_socket_or_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ask(folder.path(), &Ask::Status).await.unwrap().is_none());
        let socket = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        std::fs::write(pointer(folder.path()), socket.as_os_str().as_encoded_bytes()).unwrap();
        assert!(ask(folder.path(), &Ask::Status).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_closed_door_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), None).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_no_hindrance() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("x".repeat(120));
        std::fs::create_dir(&folder).unwrap();
        let door = open(&folder, None).unwrap();
        assert!(connect(&folder).await.unwrap().is_some());
        drop(door);
        assert!(connect(&folder).await.unwrap().is_none());
    }
}
