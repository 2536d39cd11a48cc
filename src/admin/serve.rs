//! Accepting and speaking HTTP/1.1, within limits, so that no client of the admin API can hold on to
//! it for ever.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use super::bind::{Kind, Socket};
use super::{AdminState, routes};

/// For a request head to arrive, and for a connection to lie unused.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After this a connection is closed as soon as its present request is done...
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// ... for which it then gets this long.
const LAST_REQUEST: Duration = Duration::from_secs(30);
/// At the end of the process, requests get no longer than this.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// After an accept that failed, for want of file descriptors perhaps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves the admin API on the socket until `stop` is done; then requests that have begun get a
/// second.
///
/// # Errors
/// If the socket cannot be used on this runtime.
pub async fn serve(
    socket: Socket,
    state: AdminState,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(state.shared.files.admin));
    let router = routes::router(state, socket.address().clone());
    let acceptor = match &socket.kind {
        Kind::Tcp(listener) => Acceptor::Tcp(TcpListener::from_std(listener.try_clone()?)?),
        Kind::Unix(listener) => Acceptor::Unix(UnixListener::from_std(listener.try_clone()?)?),
    };
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&acceptor, &router, &permits, &stopped) => {
                if let Err(error) = accepted {
                    tracing::warn!(%error, "the admin API cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop((acceptor, socket, stopped));
    // Tells every connection; it closes once the last of them has let go of its end.
    let _ = stopping.send(());
    let _ = tokio::time::timeout(STOP_TIMEOUT, stopping.closed()).await;
    Ok(())
}

async fn accept(
    acceptor: &Acceptor,
    router: &Router,
    permits: &Arc<Semaphore>,
    stopped: &watch::Receiver<()>,
) -> io::Result<()> {
    // The semaphore is never closed, so that there always is a permit at some time.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    let (router, stopped) = (router.clone(), stopped.clone());
    match acceptor {
        Acceptor::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(speak(stream, router, permit, stopped));
        }
        Acceptor::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(speak(stream, router, permit, stopped));
        }
    }
    Ok(())
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    _permit: Option<OwnedSemaphorePermit>,
    mut stopped: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a connection ends is its client's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => {}
        () = sleep(CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_REQUEST, connection).await;
}
