//! A way to a server that a story can close: connections through it are cut and refused until it is opened again. Or it holds
//! back what is said on them, as a machine does that has stopped.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An open or closed way to a port of this machine.
pub struct Gateway {
    port: u16,
    is_closed: Arc<AtomicBool>,
    is_held: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gateway {
    /// A way to this port. Its thread ends with the test's process.
    pub fn to(server: u16) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gateway = Gateway { port, is_closed: Arc::default(), is_held: Arc::default(), open: Arc::default() };
        let (is_closed, open) = (Arc::clone(&gateway.is_closed), Arc::clone(&gateway.open));
        let is_held = Arc::clone(&gateway.is_held);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), false) = (client, is_closed.load(Ordering::SeqCst)) else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let both = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                open.lock().unwrap().extend(both);
                let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let [there, back] = [Arc::clone(&is_held), Arc::clone(&is_held)];
                std::thread::spawn(move || pass_on(from_client, to_server, &there));
                std::thread::spawn(move || pass_on(server, client, &back));
            }
        });
        gateway
    }

    /// The port that leads through it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts what is open and lets nobody in.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing through any more, and cuts nothing.
    pub fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_held: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while is_held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
