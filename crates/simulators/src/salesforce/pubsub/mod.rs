//! The Pub/Sub API: gRPC over TLS. Owns connections; calls are in [`service`], a subscription's life in [`subscription`],
//! an event's bytes in [`avro`].

mod avro;
pub mod managed;
mod proto;
mod service;
mod subscription;

use super::org::Org;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proto::pub_sub_server::PubSubServer;
use service::Service;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::Service as _;

/// `LATEST` or `EARLIEST`, as an administrator writes it.
pub fn replay_preset(name: &str) -> Option<proto::ReplayPreset> {
    proto::ReplayPreset::from_str_name(name).filter(|preset| *preset != proto::ReplayPreset::Custom)
}

/// Cancelled to cut the connection on which a call came.
#[derive(Clone, Debug)]
struct Connection(CancellationToken);

/// Tasks of a connection belong to the simulator's tracker.
#[derive(Clone, Debug)]
struct Tasks(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, org: Arc<Org>, shutdown: CancellationToken) {
    let server = PubSubServer::new(Service { org: org.clone() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        let _ = socket.set_nodelay(true);
        org.tasks.spawn(connection(socket, tls.clone(), server.clone(), Tasks(org.tasks.clone()), shutdown.child_token()));
    }
}

async fn connection(socket: TcpStream, tls: TlsAcceptor, server: PubSubServer<Service>, tasks: Tasks, cut: CancellationToken) {
    let work = async {
        let Ok(socket) = tls.accept(socket).await else { return };
        let service = hyper::service::service_fn(|mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(Connection(cut.clone()));
            let mut server = server.clone();
            async move { server.call(request).await }
        });
        let builder = hyper::server::conn::http2::Builder::new(tasks);
        // An error here is a client that went away.
        let _ = builder.serve_connection(TokioIo::new(socket), service).await;
    };
    tokio::select! {
        () = work => {}
        () = cut.cancelled() => {}
    }
}
