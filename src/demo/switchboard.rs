//! Switches replicas off and on, at an address of the demo's own, so that anybody with curl can
//! see what the proxy does about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{io, thread};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::StatusCode;
use tokio::runtime;

use super::replica::{Replica, listen_near};

type Replicas = Arc<[Replica]>;

/// Serves the switches until the process ends, on the loopback port `wanted` or on any other if
/// that one is taken, and gives the address.
pub(super) fn start_near(wanted: u16, replicas: Replicas) -> io::Result<SocketAddr> {
    let listener = listen_near(wanted)?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let router = Router::new()
        .route("/replicas", get(list))
        .route("/replicas/{name}/stop", post(stop))
        .route("/replicas/{name}/start", post(start))
        .with_state(replicas);
    thread::Builder::new().name("switchboard".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                // It never ends by itself.
                let _ = axum::serve(listener, router).await;
            }
        });
    })?;
    Ok(address)
}

async fn list(State(replicas): State<Replicas>) -> String {
    replicas
        .iter()
        .map(|replica| {
            let state = if replica.is_running() { "running" } else { "stopped" };
            format!("{} {} {state}\n", replica.name(), replica.address())
        })
        .collect()
}

async fn stop(State(replicas): State<Replicas>, Path(name): Path<String>) -> Answer {
    let replica = find(&replicas, &name)?;
    replica.stop();
    Ok(format!("{name} is stopped: its socket and its connections are closed\n"))
}

async fn start(State(replicas): State<Replicas>, Path(name): Path<String>) -> Answer {
    let replica = find(&replicas, &name)?;
    match replica.start() {
        Ok(()) => Ok(format!("{name} runs on {}\n", replica.address())),
        Err(error) => Err((
            StatusCode::CONFLICT,
            format!("{name} cannot listen on {}: {error}\n", replica.address()),
        )),
    }
}

type Answer = Result<String, (StatusCode, String)>;

fn find<'r>(replicas: &'r Replicas, name: &str) -> Result<&'r Replica, (StatusCode, String)> {
    replicas.iter().find(|replica| replica.name() == name).ok_or_else(|| {
        let names: Vec<&str> = replicas.iter().map(Replica::name).collect();
        (StatusCode::NOT_FOUND, format!("no such replica; there are {}\n", names.join(", ")))
    })
}
