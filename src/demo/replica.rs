//! One replica of the demo's app: a thread with a runtime and a listening socket of its own, which
//! stands for a server of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;

use super::site::{self, Quality};

/// A named replica that can be stopped and started again, always on the same address.
#[derive(Debug)]
pub(super) struct Replica {
    name: Arc<str>,
    address: SocketAddr,
    quality: Quality,
    server: Mutex<Option<Server>>,
}

#[derive(Debug)]
struct Server {
    /// Dropping it ends the thread.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Replica {
    /// Starts a replica on the loopback port `wanted`, or on any other if that one is taken.
    pub(super) fn start_near(name: &str, wanted: u16, quality: Quality) -> io::Result<Self> {
        let listener = listen_near(wanted)?;
        let name: Arc<str> = name.into();
        let address = listener.local_addr()?;
        let server = Mutex::new(Some(serve(&name, listener, quality)?));
        Ok(Self { name, address, quality, server })
    }

    /// What it calls itself.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The version of the app that it runs: what stands before its number.
    pub(super) fn version(&self) -> &str {
        self.name.rsplit_once('-').map_or(&self.name, |(version, _)| version)
    }

    /// Where it listens while it runs.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it runs.
    pub(super) fn is_running(&self) -> bool {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Starts it again; nothing if it runs.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(serve(&self.name, TcpListener::bind(self.address)?, self.quality)?);
        }
        Ok(())
    }

    /// Closes its listening socket and all its connections, as if it had been killed, and returns
    /// when they are closed; nothing if it does not run.
    pub(super) fn stop(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Server { stop, thread }) = server.take() {
            drop(stop);
            // A replica that panicked is stopped as well.
            let _ = thread.join();
        }
    }
}

/// Binds the loopback port `wanted`, or any other if that one is taken.
pub(super) fn listen_near(wanted: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
}

fn serve(name: &Arc<str>, listener: TcpListener, quality: Quality) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let site = site::router(Arc::clone(name), listener.local_addr()?, quality);
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name(name.to_string()).spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            tokio::select! {
                _ = axum::serve(listener, site) => {}
                _ = stopped => {}
            }
        });
        // Dropping the runtime drops its tasks, and with them every connection.
    })?;
    Ok(Server { stop, thread })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_stopped_replica_closes_its_socket_and_connections_until_it_is_started_again() {
        let replica = Replica::start_near("blue-1", 0, Quality::Good).unwrap();
        let mut open = TcpStream::connect(replica.address()).unwrap();
        assert!(exchange(&mut open).ends_with("ok\n"));

        replica.stop();
        assert!(!replica.is_running());
        let read = open.read(&mut [0; 64]);
        assert!(matches!(read, Ok(0) | Err(_)), "the connection is closed: {read:?}");
        assert!(TcpStream::connect(replica.address()).is_err(), "nobody listens");

        replica.start().unwrap();
        let mut again = TcpStream::connect(replica.address()).unwrap();
        assert!(exchange(&mut again).ends_with("ok\n"));
    }

    fn exchange(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"ok\n") && stream.read(&mut byte).unwrap() == 1 {
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }
}
