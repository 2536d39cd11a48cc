//! Connections to backends that are opened before anybody needs them.

use std::rc::Rc;

use super::worker::Worker;
use crate::state::{WarmUp, WarmedUp};

/// Opens what an order asks for, and tells how it went.
pub fn warm_up(worker: &Rc<Worker>, order: WarmUp) {
    let lane = worker.upstreams.lane(&order.backend, &order.settings);
    let id = worker.id;
    tokio::task::spawn_local(async move {
        let opened = lane.warm_up(order.connections).await;
        let outcome = opened.map_err(|error| error.to_string());
        // Who asked may have lost interest.
        let _ = order.reply.send(WarmedUp { worker: id, outcome });
    });
}
