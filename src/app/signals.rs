//! A proxy that is the process: its log, its signals, and what it tells systemd.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::Level;

use super::{Options, Running, StartError, start};
use crate::telemetry::log::{self, Format};

/// How a proxy came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished, or its time was up.
    Gracefully,
    /// By a second signal, of this number: what was in flight is cut off. The exit code is 128 and
    /// the number, as a shell has it for a process that the signal ended.
    AtOnce(i32),
}

/// Starts a proxy with a log on stderr and serves until a signal ends it: SIGTERM and SIGINT stop
/// gracefully, a second one at once; SIGHUP reloads; SIGUSR1 opens the access log anew. `started`
/// is called as soon as the proxy accepts.
///
/// # Errors
/// If it cannot start.
pub fn run(mut options: Options, started: impl FnOnce(&Running)) -> Result<Ended, StartError> {
    if options.log.is_none() {
        // Until the configuration says otherwise. A log that was set up before serves as well.
        options.log = log::init(Level::INFO, Format::Text).ok();
    }
    log_panics();
    let running = start(options)?;
    let Some(runtime) = running.runtime().cloned() else { return Ok(Ended::Gracefully) };
    Ok(runtime.block_on(serve(&running, started))?)
}

async fn serve(running: &Running, started: impl FnOnce(&Running)) -> io::Result<Ended> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut stop = Stop::new()?;
    // Signals are caught from here on: whoever is told may send one at once.
    started(running);
    tell_systemd(&[NotifyState::Ready]);
    let number = loop {
        tokio::select! {
            Some(()) = hangup.recv() => drop(tokio::spawn(reload(running.handle()))),
            Some(()) = reopen.recv() => running.access_log().reopen(),
            number = stop.received() => break number,
        }
    };
    tracing::info!("stopping on {}; a second signal stops at once", name(number));
    tell_systemd(&[NotifyState::Stopping]);
    tokio::select! {
        () = stop_gracefully(running) => {
            tracing::info!("stopped");
            Ok(Ended::Gracefully)
        }
        number = stop.received() => {
            tracing::warn!("stopping at once on a second signal, {}", name(number));
            Ok(Ended::AtOnce(number))
        }
    }
}

async fn stop_gracefully(running: &Running) {
    let (delay, timeout) = running.handle().shutdown_times();
    running.announce_stop();
    if delay > Duration::ZERO {
        tracing::info!("not ready any more; accepting for another {delay:?}");
        tokio::time::sleep(delay).await;
    }
    running.drain(timeout);
    running.drained(timeout).await;
}

async fn reload(handle: crate::control::Handle) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell_systemd(&[NotifyState::Reloading, now]);
    }
    // The governor logs how it went.
    let _ = handle.reload().await;
    tell_systemd(&[NotifyState::Ready]);
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}

fn name(number: i32) -> &'static str {
    if number == SignalKind::interrupt().as_raw_value() { "SIGINT" } else { "SIGTERM" }
}

/// Without systemd there is nobody to tell, and that is no error.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Panics go to the log like everything else, not past it to stderr.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        let name = thread.name().unwrap_or("unnamed");
        tracing::error!(thread = name, place, "a bug of tidegate's, please report it: {message}");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!("the way to it:\n{trace}");
        }
    }));
}
