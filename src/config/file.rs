//! The sections of the file, each read key by key into its part of the model.
//!
//! A reading function is the list of a section's keys: each with its grammar, and with the default
//! of the model. Rules between the keys of one section stand at its end; rules between sections
//! are in [`check`](super::check).

mod judgement;
mod notify;
mod pool;
mod route;
mod swap;

use std::path::PathBuf;

use toml::de::DeTable;

use super::addresses;
use super::model::{
    AccessLog, Admin, BindAddress, Certificate, Config, Limits, Listener, Log, LogFormat, LogLevel,
    Server, Tls,
};
use super::reader::{Reader, Section};
use super::source::Located;
use super::values::{
    ample_or_none, boolean, choice, count_or_none, duration, duration_or_none, positive_duration,
    size_within, text, whole,
};

/// Reads the whole file. What is wrong is reported to `reader`; the value is complete only if
/// nothing was.
pub(super) fn read<'r>(reader: &'r Reader<'r>, root: &'r DeTable<'r>) -> Config {
    reader.whole(root, |s| Config {
        server: s.table("server", server),
        admin: s.table("admin", admin),
        log: s.table("log", log),
        notify: s.optional_table("notify", notify::notify),
        listeners: s.named_tables("listeners", listener),
        routes: s.tables("routes", route::route).unwrap_or_default(),
        pools: s.named_tables("pools", pool::pool),
    })
}

fn server(s: &mut Section) -> Server {
    let default = Server::default();
    let trusted = s.list("trusted_proxies", addresses::network).unwrap_or_default();
    Server {
        workers: s.get_or("workers", 0, whole(0..=1024)).try_into().ok().filter(|n| *n > 0),
        shutdown_delay: s.get_or("shutdown_delay", default.shutdown_delay, duration),
        shutdown_timeout: s.get_or("shutdown_timeout", default.shutdown_timeout, duration),
        state_dir: s.path("state_dir").or_else(|| systemd_state_directory(s)),
        trusted_proxies: trusted.into_iter().map(|network| network.value).collect(),
        max_connections: s.get_or("max_connections", default.max_connections, count_or_none),
        max_requests: s.get_or("max_requests", default.max_requests, count_or_none),
        max_buffered: s.get_or("max_buffered", default.max_buffered, ample_or_none),
        forwarded: s.get_or("forwarded", default.forwarded, boolean),
    }
}

/// systemd lists the directories of `StateDirectory=` with colons; the first is ours.
fn systemd_state_directory(s: &Section) -> Option<Located<PathBuf>> {
    let directories = s.env("STATE_DIRECTORY")?;
    let first = directories.split(':').next().filter(|first| !first.is_empty())?;
    Some(Located::unwritten(PathBuf::from(first)))
}

fn admin(s: &mut Section) -> Admin {
    let bind = s.located("bind", addresses::bind(s.directory()));
    let hosts = s.list("hosts", addresses::host).unwrap_or_default();
    let admin = Admin {
        bind: bind.unwrap_or(Admin::default().bind),
        token_file: s.path("token_file"),
        hosts: hosts.into_iter().map(|host| host.value).collect(),
    };
    if let BindAddress::Tcp(address) = *admin.bind
        && !address.ip().to_canonical().is_loopback()
        && !s.has("token_file")
    {
        s.error_at(
            "bind",
            format!("the admin API on {address} can be reached from elsewhere without a token"),
            "give a `token_file`, or bind a loopback address or a Unix socket".to_owned(),
        );
    }
    admin
}

fn log(s: &mut Section) -> Log {
    let default = Log::default();
    let log = Log {
        level: s.get_or("level", default.level, choice::<LogLevel>),
        format: s.get_or("format", default.format, choice::<LogFormat>),
        access: s.get_or("access", default.access, choice::<AccessLog>),
        access_path: s.located("access_path", text).filter(|path| path.value != "-").map(|path| {
            let directory = s.directory();
            path.map(|path| directory.join(path))
        }),
    };
    if log.access == AccessLog::Off && log.access_path.is_some() {
        s.warn_at(
            "access_path",
            "nothing is written here: `access` is off",
            "set `access` to \"json\" or \"combined\"",
        );
    }
    log
}

fn listener(s: &mut Section, name: Located<String>) -> Listener {
    let bind = listener_bind(s);
    let tls = s.optional_table("tls", tls);
    let h2c = s.get_or("h2c", Listener::default().h2c, boolean);
    if h2c && tls.is_some() {
        s.error_at(
            "h2c",
            "HTTP/2 without TLS, on a listener with `tls`",
            "leave it out: over TLS clients get HTTP/2 by asking for it".to_owned(),
        );
    }
    Listener { name, bind, tls, h2c, limits: s.table("limits", limits) }
}

fn listener_bind(s: &mut Section) -> Vec<Located<BindAddress>> {
    let grammar = addresses::bind(s.directory());
    match s.value("bind") {
        None => {
            s.require("bind", "say where to listen: bind = \"0.0.0.0:8080\"".to_owned());
            Vec::new()
        }
        Some(list) if list.is_list() => s
            .filled_list("bind", "say where to listen: \"0.0.0.0:8080\"", grammar)
            .unwrap_or_default(),
        Some(one) => one.read(grammar).into_iter().collect(),
    }
}

fn tls(s: &mut Section) -> Tls {
    let help = "give a certificate and its key: [{ cert = \"app.pem\", key = \"app.key\" }]";
    s.refuse_empty_list("certificates", help);
    s.require("certificates", help.to_owned());
    let certificates = s.tables("certificates", certificate).unwrap_or_default();
    Tls { certificates: certificates.into_iter().flatten().collect() }
}

fn certificate(s: &mut Section) -> Option<Certificate> {
    for key in ["cert", "key"] {
        s.require(key, "a certificate needs both files".to_owned());
    }
    let (cert, key) = (s.path("cert"), s.path("key"));
    Some(Certificate { cert: cert?, key: key? })
}

fn limits(s: &mut Section) -> Limits {
    let default = Limits::default();
    Limits {
        handshake_timeout: s.get_or(
            "handshake_timeout",
            default.handshake_timeout,
            positive_duration,
        ),
        header_timeout: s.get_or("header_timeout", default.header_timeout, positive_duration),
        body_timeout: s.get_or("body_timeout", default.body_timeout, positive_duration),
        write_timeout: s.get_or("write_timeout", default.write_timeout, positive_duration),
        half_close_timeout: s.get_or("half_close_timeout", default.half_close_timeout, duration),
        keepalive_timeout: s.get_or("keepalive_timeout", default.keepalive_timeout, duration),
        keepalive_max_age: s.get_or(
            "keepalive_max_age",
            default.keepalive_max_age,
            duration_or_none,
        ),
        max_header_bytes: s.get_or(
            "max_header_bytes",
            default.max_header_bytes,
            // hyper's buffer cannot be smaller.
            size_within(8 * 1024..=16 * 1024 * 1024),
        ),
        max_headers: s.get_or("max_headers", default.max_headers, whole(1..=10_000)),
        max_connections: s.get_or("max_connections", default.max_connections, count_or_none),
        max_connections_per_address: s.get_or(
            "max_connections_per_address",
            default.max_connections_per_address,
            count_or_none,
        ),
        h2_streams: s.get_or("h2_streams", default.h2_streams, whole(1..=i32::MAX.into())),
    }
}
