//! The grammars of addresses, networks, hosts, paths and header fields.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::model::{BackendAddress, BindAddress, HostPattern, Network};
use super::values::{Problem, Scalar, borrowed_text, text};

/// An address to listen on; Unix sockets are relative to `directory`.
pub(super) fn bind(directory: &Path) -> impl Fn(&Scalar) -> Result<BindAddress, Problem> {
    move |scalar| {
        let text = text(scalar)?;
        if let Some(path) = unix_path(&text, directory)? {
            return Ok(BindAddress::Unix(path));
        }
        text.parse().map(BindAddress::Tcp).map_err(|_| {
            let problem = Problem::new(format!("\"{text}\" is no address to listen on"));
            let (host, port) = text.rsplit_once(':').unwrap_or(("", &text));
            match (host, port.parse::<u16>()) {
                ("" | "*", Ok(port)) => problem.help(format!(
                    "did you mean \"0.0.0.0:{port}\", or \"[::]:{port}\" for both families?"
                )),
                ("localhost", Ok(port)) => {
                    problem.help(format!("did you mean \"127.0.0.1:{port}\"?"))
                }
                _ if text.parse::<IpAddr>().is_ok() => problem.help("add a port"),
                _ => problem
                    .help("write it like \"0.0.0.0:8080\", \"[::]:8080\" or \"unix:/run/x.sock\""),
            }
        })
    }
}

/// The address of a backend; Unix sockets are relative to `directory`.
pub(super) fn backend(directory: &Path) -> impl Fn(&Scalar) -> Result<BackendAddress, Problem> {
    move |scalar| {
        let text = borrowed_text(scalar)?;
        let invalid = |help: String| {
            Err(Problem::new(format!("\"{text}\" is no address of a backend")).help(help))
        };
        if let Some(path) = unix_path(text, directory)? {
            return Ok(BackendAddress::Unix(path));
        }
        // The usual one first: there may be thousands of them.
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => invalid("port 0 cannot be connected to".to_owned()),
                _ => Ok(BackendAddress::Ip(address)),
            };
        }
        if let Some((_, rest)) = text.split_once("://") {
            let address = rest.split('/').next().unwrap_or_default();
            return invalid(format!(
                "write \"{address}\"; TLS is asked for by `tls` in the pool's `upstream`"
            ));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return invalid(format!("write \"[{address}]:PORT\""));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return invalid(format!("add a port: \"{text}:80\""));
        };
        let port = port.parse().ok().filter(|port| *port != 0);
        match (normal_name(host), port) {
            (_, None) => invalid("the port must be from 1 to 65535".to_owned()),
            (None, _) => invalid("write it like \"10.0.0.1:80\" or \"app.internal:80\"".to_owned()),
            (Some(host), Some(port)) => Ok(BackendAddress::Name { host, port }),
        }
    }
}

fn unix_path(text: &str, directory: &Path) -> Result<Option<PathBuf>, Problem> {
    match text.strip_prefix("unix:") {
        None => Ok(None),
        Some("") => Err(Problem::new("`unix:` needs a path").help("write \"unix:/run/x.sock\"")),
        Some(path) => Ok(Some(directory.join(path))),
    }
}

/// An IP address, or a network such as `10.0.0.0/8`.
pub(super) fn network(scalar: &Scalar) -> Result<Network, Problem> {
    let text = text(scalar)?;
    let invalid = || {
        let problem = Problem::new(format!("\"{text}\" is no address or network"));
        problem.help("write it like \"10.0.0.1\" or \"10.0.0.0/8\"")
    };
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text.as_str(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(prefix) => prefix.parse().ok().filter(|n| *n <= bits).ok_or_else(invalid)?,
    };
    let start = first_of_network(address, prefix);
    if start != address {
        let problem = Problem::new(format!("\"{text}\" is an address within a network"));
        return Err(problem.help(format!("the network is \"{start}/{prefix}\"")));
    }
    Ok(Network { address, prefix })
}

fn first_of_network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// A host of a route: a name, an address or `*.` and a name. A port is dropped.
pub(super) fn host_pattern(scalar: &Scalar) -> Result<HostPattern, Problem> {
    let text = text(scalar)?;
    let Some(suffix) = text.strip_prefix("*.") else {
        return normal_host(&text).map(HostPattern::Exact);
    };
    match normal_name(without_port(suffix)) {
        Some(suffix) => Ok(HostPattern::Wildcard(suffix)),
        None => Err(not_a_host(&text)),
    }
}

/// One host, normalised: lower-case, without port and trailing dot, IPv6 in brackets.
pub(super) fn host(scalar: &Scalar) -> Result<String, Problem> {
    normal_host(&text(scalar)?)
}

/// Name of a server in a certificate: a name, or an address without brackets.
pub(super) fn server_name(scalar: &Scalar) -> Result<String, Problem> {
    let text = text(scalar)?;
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => normal_name(&text).ok_or_else(|| not_a_host(&text)),
    }
}

fn normal_host(text: &str) -> Result<String, Problem> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let host = without_port(text);
    if let Some(inside) = host.strip_prefix('[') {
        let address = inside.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
        return address.map(|address| format!("[{address}]")).ok_or_else(|| not_a_host(text));
    }
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        return Ok(host.to_owned());
    }
    normal_name(host).ok_or_else(|| not_a_host(text))
}

fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => text,
    }
}

fn not_a_host(text: &str) -> Problem {
    let problem = Problem::new(format!("\"{text}\" is no host"));
    if text == "*" {
        problem.help("leave `hosts` out to match any host")
    } else if text.contains('*') {
        problem.help("a wildcard is the whole first label: \"*.example.org\"")
    } else if text.contains('/') {
        problem.help("write the name alone, without scheme and path")
    } else if !text.is_ascii() {
        problem.help("write international names in their ASCII form, \"xn--...\"")
    } else {
        problem.help("write it like \"app.example.com\"")
    }
}

/// A name as DNS would take it, lower-case and without trailing dot. Underscores are allowed, as
/// container networks use them. A last label of digits is a broken IPv4 address.
fn normal_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    (name.len() <= 253 && !numeric && name.split('.').all(label_fits)).then_some(name)
}

/// A path of a route or a redirect: as it stands in a request, without query.
pub(super) fn route_path(scalar: &Scalar) -> Result<String, Problem> {
    let path = request_path(scalar)?;
    let invalid = |help: &str| Err(Problem::new(format!("\"{path}\" is no path")).help(help));
    if path.contains('?') {
        return invalid("routes match paths, not queries");
    }
    let dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if path.split('/').any(dots) {
        return invalid("requests with `.` or `..` as a segment are refused, so none would match");
    }
    Ok(path)
}

/// A path and query to ask for.
pub(super) fn request_path(scalar: &Scalar) -> Result<String, Problem> {
    let path = text(scalar)?;
    let invalid = |help: &str| Err(Problem::new(format!("\"{path}\" is no path")).help(help));
    if !path.starts_with('/') {
        return match path.contains("://") {
            true => invalid("write the path alone, beginning with `/`"),
            false => invalid(&format!("it must begin with `/`: \"/{path}\"")),
        };
    }
    if path.contains('#') {
        return invalid("a fragment (`#`) is never sent");
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return invalid("write spaces and other special characters percent-encoded: `%20`");
    }
    Ok(path)
}

/// A token of RFC 9110 section 5.6.2: the name of a header field or a cookie.
pub(super) fn is_token(text: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || special.contains(&b))
}

/// The name of a cookie.
pub(super) fn cookie_name(scalar: &Scalar) -> Result<String, Problem> {
    let name = text(scalar)?;
    if is_token(&name) {
        return Ok(name);
    }
    let problem = Problem::new(format!("\"{name}\" cannot be the name of a cookie"));
    Err(problem.help("use letters, digits, `-` and `_`"))
}

/// The name of a header field.
pub(super) fn field_name(scalar: &Scalar) -> Result<String, Problem> {
    let name = text(scalar)?;
    if is_token(&name) {
        return Ok(name);
    }
    Err(Problem::new(format!("`{name}` cannot be the name of a header field")))
}

/// The value of a `Content-Type` field.
pub(super) fn content_type(scalar: &Scalar) -> Result<String, Problem> {
    let value = text(scalar)?;
    let (kind, _) = value.split_once(';').unwrap_or((&value, ""));
    let halves = kind.trim().split_once('/');
    let printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if printable && halves.is_some_and(|(first, second)| is_token(first) && is_token(second)) {
        return Ok(value);
    }
    let problem = Problem::new(format!("{value:?} is no media type"));
    Err(problem.help("write it like \"text/html; charset=utf-8\""))
}

#[cfg(test)]
mod tests;
