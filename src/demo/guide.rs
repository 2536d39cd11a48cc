//! What the demo prints: where everything is, and lines to copy and paste.

use std::env;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::replica::Replica;
use super::settings::Ports;

/// All that the lines need to work as printed.
#[derive(Debug)]
pub(super) struct Guide<'a> {
    pub(super) ports: Ports,
    pub(super) replicas: &'a [Replica],
    pub(super) switchboard: SocketAddr,
    pub(super) config: &'a Path,
}

/// The head of a WebSocket's request, as `printf` takes it.
const UPGRADE: &str = r"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// `hello` in a text frame and a close frame, masked with zeros (RFC 6455 section 5.2).
const HELLO: &str = r"\201\205\0\0\0\0hello\210\200\0\0\0\0";

impl Display for Guide<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.places(f)?;
        self.requests(f)?;
        self.operations(f)?;
        f.write_str("\nCtrl-C here ends the demo and leaves nothing behind.\n\n")
    }
}

impl Guide<'_> {
    fn places(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ports { http, https, admin } = self.ports;
        let versions = self.replicas.chunk_by(|one, next| one.version() == next.version());
        let lines: Vec<String> = versions
            .map(|replicas| {
                let told =
                    |replica: &Replica| format!("{} ({})", replica.name(), replica.address());
                replicas.iter().map(told).collect::<Vec<_>>().join(", ")
            })
            .collect();
        writeln!(
            f,
            "\
Tidegate demo, all on loopback.

  the proxy       http://localhost:{http}  https://localhost:{https}  (certificate made up on the spot)
  its status page http://127.0.0.1:{admin}/
  its config      {config}
  the replicas    {replicas}
                  They stand for servers, although they run in this process. Blue serves; green is
                  the next version, and red one that passes its health checks and fails half of
                  all requests.

In the browser: https://localhost:{https}/ (accept the certificate) has a WebSocket and an event stream.
In another terminal, line by line:",
            config = self.config.display(),
            replicas = lines.join(",\n                  "),
        )
    }

    fn requests(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let https = self.ports.https;
        writeln!(
            f,
            "
HTTP/1.1, then HTTP/2 with two requests on one connection. Each answer names its replica:
  curl -k --http1.1 https://localhost:{https}/api/whoami
  curl -k --http2 -i https://localhost:{https}/api/whoami https://localhost:{https}/api/whoami

A stream of events, each as it happens (Ctrl-C ends it):
  curl -kN https://localhost:{https}/events

An upload of 100 MB, counted by the replica:
  head -c 100000000 /dev/zero | curl -k -T - https://localhost:{https}/upload

A WebSocket by hand, over TLS. Hello comes back after the head of the answer:
  (printf '{UPGRADE}'; sleep 1; printf '{HELLO}'; sleep 1) | openssl s_client -quiet -connect localhost:{https} 2>/dev/null"
        )
    }

    fn operations(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ports { https, admin, .. } = self.ports;
        let switchboard = self.switchboard;
        let config = shell_word(self.config);
        let tidegate = shell_word(&own_path());
        // The default needs no saying.
        let at = match admin {
            9900 => String::new(),
            port => format!(" --admin http://127.0.0.1:{port}"),
        };
        writeln!(
            f,
            "
Kill a replica under traffic. 100 times 200, and status says why it is out:
  (for i in $(seq 100); do curl -sk -o /dev/null -w '%{{http_code}}\\n' https://localhost:{https}/; sleep 0.05; done | sort | uniq -c) &
  sleep 1; curl -X POST http://{switchboard}/replicas/blue-2/stop
  sleep 4; {tidegate} status{at}
  curl -X POST http://{switchboard}/replicas/blue-2/start

Deploy green under traffic, then red, which is rolled back before your eyes: checked, switched,
watched for 10 s. Look at the status page meanwhile. The exit codes are 0 and 3:
  curl -sk --rate 30/s -o /dev/null -w '%{{http_code}}\\n' 'https://localhost:{https}/?[1-1200]' | sort | uniq -c &
  {tidegate} swap app green{at}; echo \"exit code $?\"
  {tidegate} swap app red{at}; echo \"exit code $?\"
  {tidegate} explain request https://localhost:{https}/{at}

Take blue-3 out of the configuration; no connection is closed for it:
  sed -i.bak '/# blue-3$/s/^/#/' {config}
  {tidegate} reload{at} && {tidegate} status{at}

What Prometheus would scrape:
  curl -s http://127.0.0.1:{admin}/metrics | grep -E '^tidegate_(backend_up|backend_requests_total)'"
        )
    }
}

/// How this program is called from anywhere.
fn own_path() -> PathBuf {
    env::current_exe().unwrap_or_else(|_| PathBuf::from("tidegate"))
}

/// A path as one word of a shell's command line.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_one_word() {
        assert_eq!(shell_word(Path::new("/tmp/a-1/b.toml")), "/tmp/a-1/b.toml");
        assert_eq!(shell_word(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }
}
