//! A proxy in front of the server that loses a connection at a chosen moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// When the next connection that commits is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Loss {
    Never = 0,
    /// The commit does not reach the server.
    BeforeCommit = 1,
    /// The commit reaches the server; its answer does not come back.
    AfterCommit = 2,
    /// As before, and from then on nobody can connect.
    AfterCommitForGood = 3,
}

pub struct Proxy {
    pub port: u16,
    plan: Arc<AtomicU8>,
    _listener: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn start(server_port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(AtomicU8::new(Loss::Never as u8));
        let shared = Arc::clone(&plan);
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        let accept = tasks.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.load(Ordering::SeqCst) == 255 {
                    continue;
                }
                connections.spawn(serve(client, server_port, Arc::clone(&shared)));
            }
        });
        Proxy { port, plan, _listener: AbortOnDropHandle::new(accept) }
    }

    pub fn lose(&self, loss: Loss) {
        self.plan.store(loss as u8, Ordering::SeqCst);
    }
}

async fn serve(mut client: TcpStream, server_port: u16, plan: Arc<AtomicU8>) {
    let mut server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        if plan.load(Ordering::SeqCst) == 255 {
            return;
        }
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let commits = up[..length].windows(7).any(|bytes| bytes == b"COMMIT\0");
                let loss = if commits { plan.swap(0, Ordering::SeqCst) } else { 0 };
                if loss == Loss::BeforeCommit as u8 {
                    return;
                }
                if server.write_all(&up[..length]).await.is_err() {
                    return;
                }
                if loss != 0 {
                    if loss == Loss::AfterCommitForGood as u8 {
                        plan.store(255, Ordering::SeqCst);
                    }
                    // The answer proves that the commit has happened; nobody else learns of it.
                    while let Ok(length @ 1..) = server.read(&mut down).await {
                        if down[..length].windows(7).any(|bytes| bytes == b"COMMIT\0") {
                            break;
                        }
                    }
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
