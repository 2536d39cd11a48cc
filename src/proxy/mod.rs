//! The data plane: one straight line from accept to the last byte of the response.
//!
//! [`listener`] -> [`tls`] -> [`connection`] -> [`service`] -> (`upstream`) -> [`body`], with
//! [`headers`], [`retry`], [`upgrade`] and [`error`] beside it. Everything runs on a [`worker`].

pub mod body;
pub mod breaker;
pub mod clock;
pub mod connection;
pub mod date;
pub mod drive;
pub mod error;
pub mod exchange;
pub mod fallback;
pub mod farewell;
pub mod forward;
pub mod framing;
pub mod headers;
pub mod host;
pub mod http1;
pub mod http2;
pub mod io;
pub mod listener;
pub mod missed;
pub mod outgoing;
pub mod patience;
pub mod permit;
pub mod prepare;
pub mod queue;
pub mod rare;
pub mod received;
pub mod record;
pub mod relief;
pub mod reply;
pub mod retry;
pub mod room;
pub mod service;
pub mod shadow;
pub mod sniff;
pub mod switch;
pub mod timer;
pub mod tls;
pub mod tunnel;
pub mod tunnels;
pub mod upgrade;
pub mod waiting;
pub mod wakers;
pub mod warmth;
pub mod websocket;
pub mod worker;
