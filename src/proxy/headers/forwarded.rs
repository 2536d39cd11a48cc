//! Who asks: `X-Forwarded-*`, RFC 7239's `Forwarded`, and the client's address.

use std::net::{IpAddr, SocketAddr};

use std::rc::Rc;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::kind::is_forwarding;
use super::{HOPS, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, remove};
use crate::state::trust::TrustedProxies;
use crate::upstream::{Field, SharedFields};

/// What the requests of one client connection are told about it, prepared once.
#[derive(Clone, Debug)]
pub struct ConnectionHeaders {
    /// What all requests get.
    fields: Rc<SharedFields>,
    /// What is added to what a trusted peer says. Of others it is among the fields.
    trusted: Option<Box<Own>>,
    /// The part of an RFC 7239 element that the connection decides, if such are wanted.
    forwarded: Option<Box<str>>,
}

/// What we know ourselves of a connection from a trusted peer.
#[derive(Clone, Debug)]
struct Own {
    peer: HeaderValue,
    proto: HeaderValue,
    port: HeaderValue,
}

/// A client connection, as far as backends are told.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The address at the other end; none on a unix socket.
    pub peer: Option<IpAddr>,
    /// Whether it is encrypted.
    pub secure: bool,
    /// The port that the client connected to.
    pub port: u16,
    /// Whether the peer's own word about where requests come from is believed.
    pub trusted: bool,
}

impl ConnectionHeaders {
    /// Prepares the values; `instance` is the mark of this process, and `forwarded` asks for RFC 7239's
    /// field beside the others.
    pub fn new(
        connection: Connection,
        instance: &HeaderValue,
        forwarded: bool,
    ) -> ConnectionHeaders {
        let peer = connection.peer.map(|peer| peer.to_canonical());
        let proto = if connection.secure { "https" } else { "http" };
        let forwarded = forwarded.then(|| format!("for={};proto={proto}", node(peer)).into());
        let mut fields = SharedFields::new();
        fields.add(&HOPS, instance.as_bytes());
        let trusted = connection.trusted.then(|| {
            let (proto, port) = (HeaderValue::from_static(proto), connection.port.into());
            Box::new(Own { peer: visible(&address(peer)), proto, port })
        });
        if trusted.is_none() {
            fields.add(&X_FORWARDED_FOR, &address(peer));
            fields.add(&X_FORWARDED_PROTO, proto.as_bytes());
            fields.add(&X_FORWARDED_PORT, itoa::Buffer::new().format(connection.port).as_bytes());
        }
        ConnectionHeaders { fields: Rc::new(fields), trusted, forwarded }
    }

    /// Tells the backend who asks. What an untrusted client says about that is replaced; what a
    /// trusted proxy says is kept, with the proxy's own address added. Spellings with underscores
    /// always go: no proxy sends them, and some backends take them for the real ones.
    ///
    /// `host` is the request's host, as [`crate::proxy::host::of`] gives it; `claims` is whether
    /// there is any such field. What comes beside the client's own fields is [`Self::fields`] and
    /// what is put into `added`.
    pub fn apply(
        &self,
        headers: &mut HeaderMap,
        claims: bool,
        host: Option<&HeaderValue>,
        added: &mut SmallVec<[Field; 2]>,
    ) {
        let trusted = self.trusted.is_some();
        if claims {
            remove(headers, |name| is_forwarding(name) && !(trusted && is_plain(name)));
        }
        if let Some(own) = &self.trusted {
            own.add_to_trusted(headers, host);
        } else if let Some(host) = host {
            added.push((X_FORWARDED_HOST.clone(), host.clone()));
        }
        if let Some(element) = &self.forwarded {
            add_element(headers, element, host);
        }
    }

    /// What every request of the connection gets.
    pub fn fields(&self) -> Rc<SharedFields> {
        Rc::clone(&self.fields)
    }
}

impl Own {
    fn add_to_trusted(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        add_member(headers, &X_FORWARDED_FOR, &self.peer);
        // A proxy that tells the scheme but no port means the scheme's own port; ours, between it
        // and us, would lead backends to links that nobody can follow.
        let port = match headers.get(&X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => HeaderValue::from_static("443"),
            Some(b"http") => HeaderValue::from_static("80"),
            _ => self.port.clone(),
        };
        headers.entry(&X_FORWARDED_PORT).or_insert(port);
        headers.entry(&X_FORWARDED_PROTO).or_insert_with(|| self.proto.clone());
        if let Some(host) = host {
            headers.entry(&X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    }
}

/// RFC 7239 section 6.2, and the custom for `X-Forwarded-For`.
const UNKNOWN: &str = "unknown";

/// RFC 7239 section 6: an IPv6 address goes in brackets, and so in quotes.
fn node(peer: Option<IpAddr>) -> String {
    match peer {
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => format!("\"[{v6}]\""),
        None => UNKNOWN.to_owned(),
    }
}

/// An address as it is written. By hand, since every connection needs it and formatting takes its
/// time.
fn address(peer: Option<IpAddr>) -> SmallVec<[u8; 40]> {
    let mut text = SmallVec::new();
    match peer {
        Some(IpAddr::V4(v4)) => {
            for octet in v4.octets() {
                text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                text.push(b'.');
            }
            text.pop();
        }
        Some(IpAddr::V6(v6)) => text.extend_from_slice(v6.to_string().as_bytes()),
        None => text.extend_from_slice(UNKNOWN.as_bytes()),
    }
    text
}

#[expect(clippy::expect_used, reason = "an address is visible ASCII")]
fn visible(address: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(address).expect("an address is a valid field value")
}

fn is_plain(name: &[u8]) -> bool {
    !name.contains(&b'_')
}

/// Adds a member at the end of a list field, on one line.
fn add_member(headers: &mut HeaderMap, name: &HeaderName, member: &HeaderValue) {
    if !headers.contains_key(name) {
        headers.insert(name, member.clone());
        return;
    }
    let mut list = Vec::with_capacity(64);
    for value in headers.get_all(name).iter().chain([member]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    headers.insert(name, HeaderValue::try_from(list).unwrap_or_else(|_| member.clone()));
}

/// Adds an RFC 7239 element (section 4) with the request's host.
fn add_element(headers: &mut HeaderMap, connection: &str, host: Option<&HeaderValue>) {
    let mut element = Vec::with_capacity(connection.len() + 32);
    element.extend_from_slice(connection.as_bytes());
    if let Some(host) = host
        && crate::proxy::host::parse(host.as_bytes()).is_some()
    {
        // In quotes, for a colon is no token byte; nothing in a valid host needs escaping.
        element.extend_from_slice(b";host=\"");
        element.extend_from_slice(host.as_bytes());
        element.push(b'"');
    }
    if let Ok(element) = HeaderValue::try_from(element) {
        add_member(headers, &FORWARDED, &element);
    }
}

/// The client's address: the nearest in `X-Forwarded-For` that is not a trusted proxy's, read from
/// the right, since only what trusted proxies wrote is believed. An entry that is no address ends
/// the search at the proxy that wrote it.
pub fn client_address(trusted: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contains(client) {
        return client;
    }
    let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    for entry in lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')) {
        let Some(address) = parse_address(entry) else {
            break;
        };
        client = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// Reads an address, in brackets or quotes and with a port if a proxy writes it so.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t', '"']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    fn connection(peer: &str, trusted: bool) -> Connection {
        Connection { peer: peer.parse().ok(), secure: true, port: 8443, trusted }
    }

    fn applied(connection: Connection, forwarded: bool, lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(lines);
        let mut added = SmallVec::new();
        let host = HeaderValue::from_static("a.example:8443");
        let instance = HeaderValue::from_static("me");
        let of_connection = ConnectionHeaders::new(connection, &instance, forwarded);
        of_connection.apply(&mut headers, !lines.is_empty(), Some(&host), &mut added);
        for (name, value) in of_connection.fields().iter().chain(&added) {
            headers.append(name, value.clone());
        }
        assert_eq!(headers.remove(&HOPS), Some(instance));
        headers
    }

    #[test]
    fn an_untrusted_client_is_not_believed() {
        let wanted = map(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-host", "a.example:8443"),
            ("x-other", "stays"),
        ]);
        let client = connection("192.0.2.1", false);
        assert_eq!(applied(client, false, &[("x-other", "stays")]), wanted);
        let lies = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-for", "127.0.0.2"),
            ("X_Forwarded_For", "127.0.0.3"),
            ("x-forwarded_proto", "gopher"),
            ("x-forwarded-prefix", "/admin"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("x_real_ip", "127.0.0.1"),
            ("x-other", "stays"),
        ];
        assert_eq!(applied(client, false, &lies), wanted);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added() {
        let lines = [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example"),
            ("x_forwarded_for", "127.0.0.1"),
            ("x-forwarded-prefix", "/app"),
            ("x-real-ip", "203.0.113.7"),
        ];
        let wanted = map(&[
            ("x-forwarded-for", "203.0.113.7, 192.0.2.9, ::1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "80"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-prefix", "/app"),
            ("x-real-ip", "203.0.113.7"),
        ]);
        assert_eq!(applied(connection("::1", true), false, &lines), wanted);
    }

    #[test]
    fn a_silent_trusted_proxy_is_the_client() {
        let wanted = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-host", "a.example:8443"),
        ]);
        assert_eq!(applied(connection("::ffff:10.0.0.1", true), false, &[]), wanted);
    }

    #[test]
    fn forwarded_elements() {
        let value = |connection, lines: &[(&str, &str)]| {
            applied(connection, true, lines).get(FORWARDED).cloned().unwrap()
        };
        let old = [("forwarded", "for=203.0.113.7")];
        assert_eq!(
            value(connection("192.0.2.1", false), &old),
            "for=192.0.2.1;proto=https;host=\"a.example:8443\""
        );
        assert_eq!(
            value(connection("2001:db8::1", true), &old),
            "for=203.0.113.7, for=\"[2001:db8::1]\";proto=https;host=\"a.example:8443\""
        );
        assert_eq!(
            value(connection("", false), &[]),
            "for=unknown;proto=https;host=\"a.example:8443\""
        );
    }

    #[test]
    fn forwarded_leaves_out_a_host_that_would_break_it() {
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_static("a\";for=127.0.0.1");
        let instance = HeaderValue::from_static("me");
        ConnectionHeaders::new(connection("192.0.2.1", false), &instance, true).apply(
            &mut headers,
            false,
            Some(&host),
            &mut SmallVec::new(),
        );
        assert_eq!(headers.get(FORWARDED).unwrap(), "for=192.0.2.1;proto=https");
    }

    #[test]
    fn a_unix_peer_is_unknown() {
        let headers = applied(connection("", false), false, &[]);
        assert_eq!(headers.get(&X_FORWARDED_FOR).unwrap(), "unknown");
    }

    #[test]
    fn client_address_is_the_nearest_untrusted() {
        let trusted = TrustedProxies::parse(&["10.0.0.0/8", "2001:db8::/32"]).unwrap();
        let table: [(&str, &[&str], &str); 15] = [
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &["127.0.0.1"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["127.0.0.1", "203.0.113.7 , 10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7, 2001:db8::2", "10.1.1.1"], "203.0.113.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["127.0.0.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["127.0.0.1,"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["[::1]:4711"], "::1"),
            ("10.0.0.1", &["\"[::1]\""], "::1"),
            ("10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7"),
        ];
        for (peer, lines, client) in table {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let found = client_address(&trusted, peer.parse().unwrap(), &map(&lines));
            assert_eq!(found.to_string(), client, "{peer} {lines:?}");
        }
    }
}
