//! A proxy that leads every host to the simulator: for clients whose hosts are fixed. It understands CONNECT alone and
//! never opens a connection to anything but the one address that it was given.

use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest line of a request.
const LINES_MAX: usize = 100;

/// Serves until `shutdown`: whatever host a client wants, it gets `target`.
pub async fn serve(listener: TcpListener, target: SocketAddr, tasks: TaskTracker, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                // An end on either side ends the tunnel.
                _ = tunnel(socket, target) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn tunnel(socket: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut client = BufReader::new(socket);
    let mut first = String::new();
    client.read_line(&mut first).await?;
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
    }
    if !first.starts_with("CONNECT ") {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
    }
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
