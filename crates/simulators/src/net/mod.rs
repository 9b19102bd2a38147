//! The simulators' ends of the network: listening, TLS, HTTP/1.1, connections that are cut on purpose, and a proxy for
//! clients whose hosts cannot be changed. Knows no vendor.

pub mod coding;
pub mod http;
pub mod proxy;
pub mod tls;

use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Listens on a loopback address; port 0 takes a free one.
pub async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let own = listener.local_addr().map_err(|error| format!("{address}: {error}"))?;
    Ok((listener, own))
}
