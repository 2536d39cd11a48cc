//! The admin API as a part of the running proxy.

use std::io;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin::{self, AdminState, Socket};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The admin API on its socket. It answers as long as the workers do, and so ends after them.
#[derive(Debug)]
pub(super) struct AdminApi {
    address: admin::Address,
    open: Option<oneshot::Sender<()>>,
    stop: watch::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl AdminApi {
    /// Needs the control runtime around it. Who asks before it is [opened](Self::open) waits.
    pub(super) fn start(socket: Socket, state: AdminState) -> Self {
        let address = socket.address().clone();
        let (open, opened) = oneshot::channel();
        let (stop, mut stopped) = watch::channel(());
        let serving = tokio::spawn(async move {
            // To be told and to be dropped is the same here, and so it is below.
            let _ = opened.await;
            admin::serve(socket, state, async move { drop(stopped.changed().await) }).await
        });
        AdminApi { address, open: Some(open), stop, serving }
    }

    /// From here on it answers.
    pub(super) fn open(&mut self) {
        self.open.take();
    }

    /// Where it listens, with its real port.
    pub(super) fn address(&self) -> &admin::Address {
        &self.address
    }

    /// Ends it: requests that have begun get a moment, and the file of a Unix socket goes.
    pub(super) async fn stop(&self) {
        // If it has ended already, there is nobody to tell.
        let _ = self.stop.send(());
        while !self.serving.is_finished() {
            tokio::time::sleep(LOOK).await;
        }
    }
}
