//! The demo: a proxy with replicas of a small app behind it, all on loopback, with nothing to
//! prepare.
//!
//! The replicas run on threads of this process, each with a runtime and a socket of its own, and
//! stand for separate servers: stopping one closes its socket and its connections, as a crash
//! would. The proxy in front of them is the real one, started from a real configuration file in a
//! temporary folder, so that what people try here is what they get.

mod folder;
mod guide;
mod replica;
mod settings;
mod site;
mod switchboard;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::app::{self, Ended, Options, StartError};
use crate::certs::generate::{GenerateError, Validity, self_signed};
use folder::Folder;
use guide::Guide;
use replica::Replica;
use settings::Ports;
use site::Quality;

/// The names that `https://localhost` and its addresses are asked for by.
const NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Nobody runs a demo for longer.
const VALID_DAYS: u32 = 30;

/// The first replica's port, if it is free; the others follow.
const FIRST_REPLICA: u16 = 4001;
/// Of each version.
const REPLICAS: u16 = 3;

/// The versions of the app. The first serves.
const VERSIONS: [(&str, Quality); 3] =
    [("blue", Quality::Good), ("green", Quality::Good), ("red", Quality::Bad)];

/// The switchboard's port, if it is free.
const SWITCHBOARD: u16 = 4100;

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A port that is needed is in use.
    #[error(
        "port {port} on 127.0.0.1 {} move all ports of the demo: tidegate demo --port-offset 1000",
        obstacle(source)
    )]
    Port {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The ports would be beyond 65535.
    #[error("with a port offset of {0} the ports are beyond 65535; choose one up to 55000")]
    Offset(u16),
    /// A replica or its switchboard does not start.
    #[error("cannot start the replicas: {0}")]
    Replicas(io::Error),
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] GenerateError),
    /// The proxy does not start.
    #[error(transparent)]
    Proxy(#[from] StartError),
    /// There is no place for the configuration.
    #[error("cannot write to the folder for temporary files: {0}; set TMPDIR to another one")]
    Folder(io::Error),
}

/// Runs the demo until a signal ends it. `port_offset` is added to every port.
///
/// # Errors
/// If it cannot start; then nothing is left behind.
pub fn run(port_offset: u16) -> Result<Ended, DemoError> {
    let stage = Stage::set(port_offset)?;
    let options = Options { config_path: stage.config.clone(), ..Options::default() };
    let ended = app::run(options, |_| {
        // Without a reader the demo runs all the same.
        let _ = write!(io::stdout(), "{}", stage.guide());
    })?;
    Ok(ended)
}

fn obstacle(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is taken; stop what listens there, or".to_owned(),
        _ => format!("cannot be used ({error});"),
    }
}

/// All that stands around the proxy.
struct Stage {
    ports: Ports,
    replicas: Arc<[Replica]>,
    switchboard: SocketAddr,
    config: PathBuf,
    /// Disappears at the end, with the configuration in it.
    _folder: Folder,
}

impl Stage {
    fn set(port_offset: u16) -> Result<Self, DemoError> {
        let ports = Ports::with_offset(port_offset)?;
        ports.check_free()?;
        let wanted = VERSIONS.iter().flat_map(|version| (1..=REPLICAS).map(move |n| (version, n)));
        let replicas: Arc<[Replica]> = (FIRST_REPLICA + port_offset..)
            .zip(wanted)
            .map(|(port, ((version, quality), number))| {
                Replica::start_near(&format!("{version}-{number}"), port, *quality)
            })
            .collect::<io::Result<_>>()
            .map_err(DemoError::Replicas)?;
        let switchboard = switchboard::start_near(SWITCHBOARD + port_offset, Arc::clone(&replicas))
            .map_err(DemoError::Replicas)?;

        let pair = self_signed(NAMES, Validity::of_days(SystemTime::now(), VALID_DAYS))?;
        let text = settings::text(ports, ports.ipv6_is_free(), &replicas);
        let folder = Folder::new().map_err(DemoError::Folder)?;
        let write = |name, content: &str| folder.write(name, content).map_err(DemoError::Folder);
        write("localhost.pem", &pair.cert)?;
        write("localhost.key", &pair.key)?;
        let config = write("tidegate.toml", &text)?;
        Ok(Self { ports, replicas, switchboard, config, _folder: folder })
    }

    fn guide(&self) -> Guide<'_> {
        let Stage { ports, switchboard, .. } = *self;
        Guide { ports, switchboard, replicas: &self.replicas, config: &self.config }
    }
}
