//! The demo's configuration, written as people would write it: it is there to be edited.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::DemoError;
use super::replica::Replica;

/// The ports that the demo's proxy listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) admin: u16,
}

impl Ports {
    /// The usual ports, all moved up by `offset`.
    pub(super) fn with_offset(offset: u16) -> Result<Self, DemoError> {
        let moved = |port: u16| port.checked_add(offset).ok_or(DemoError::Offset(offset));
        Ok(Self { http: moved(8080)?, https: moved(8443)?, admin: moved(9900)? })
    }

    /// Fails with the first port that is taken.
    pub(super) fn check_free(self) -> Result<(), DemoError> {
        for port in [self.http, self.https, self.admin] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|source| DemoError::Port { port, source })?;
        }
        Ok(())
    }

    /// Whether the proxy can listen on `[::1]` too, which `localhost` may stand for.
    pub(super) fn ipv6_is_free(self) -> bool {
        [self.http, self.https]
            .iter()
            .all(|&port| TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok())
    }
}

/// The text of the file.
pub(super) fn text(ports: Ports, ipv6: bool, replicas: &[Replica]) -> String {
    let bind = |port: u16| {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        if ipv6 { format!("[\"{v4}\", \"{v6}\"]") } else { format!("\"{v4}\"") }
    };
    let mut versions = String::new();
    // Writing to a string cannot fail.
    for replicas in replicas.chunk_by(|one, next| one.version() == next.version()) {
        let version = replicas.first().map_or("", Replica::version);
        let _ = writeln!(versions, "[pools.app.versions.{version}]\nbackends = [");
        for replica in replicas {
            let _ = writeln!(versions, "    \"{}\", # {}", replica.address(), replica.name());
        }
        let _ = writeln!(versions, "]\n");
    }
    let active = replicas.first().map_or("", Replica::version);
    format!(
        r#"# What the demo's proxy runs with. Change it, save it, and take it in with `tidegate reload`.

[server]
shutdown_timeout = "2s"           # Ctrl-C does not wait long for open event streams
state_dir = "state"               # which version serves, and the reports of swaps

[admin]
bind = "127.0.0.1:{admin}"

[listeners.http]
bind = {http}

[listeners.https]
bind = {https}
tls = {{ certificates = [{{ cert = "localhost.pem", key = "localhost.key" }}] }}

[[routes]]
name = "app"
pool = "app"

[pools.app]
active = "{active}"
# affinity = {{ cookie = "tidegate_app" }}     # stay on the replica that answered first

[pools.app.health]
path = "/health/ready"
interval = "1s"
timeout = "500ms"

[pools.app.swap]                  # short, to be watched; the defaults are for real deploys
watch = "10s"
drain_timeout = "2s"
rollback = {{ min_requests = 10 }}  # as few people will click as fast as real traffic comes

{versions}"#,
        admin = ports.admin,
        http = bind(ports.http),
        https = bind(ports.https),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::demo::site::Quality;

    #[test]
    fn the_text_is_a_valid_configuration_without_warnings() {
        let replicas = ["blue-1", "blue-2", "green-1"]
            .map(|name| Replica::start_near(name, 0, Quality::Good).unwrap());
        for ipv6 in [false, true] {
            let ports = Ports::with_offset(7).unwrap();
            let text = text(ports, ipv6, &replicas);
            let parsed = config::parse(&text, Path::new("/d/tidegate.toml"), &|_| None).unwrap();
            assert_eq!(parsed.warnings, []);
            assert_eq!(parsed.config.listeners["http"].bind.len(), if ipv6 { 2 } else { 1 });
            assert_eq!(parsed.config.admin.bind.to_string(), "127.0.0.1:9907");
        }
    }

    #[test]
    fn an_offset_that_leaves_no_port_is_refused() {
        assert!(matches!(Ports::with_offset(60_000), Err(DemoError::Offset(60_000))));
    }
}
