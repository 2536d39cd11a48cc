//! Who may ask, checked before anything is done for a request.
//!
//! A browser on the operator's machine can be made to send requests here by any web page. So a
//! request must name a host that is ours (a page that had its own name resolve to our address
//! cannot), and one that changes something must carry a content type that a page may not send
//! elsewhere without being asked first (it would have to ask with OPTIONS, which is refused).

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AdminState;
use super::bind::Address;
use super::routes::error;

/// What is asked of orchestrators' probes, which have no token.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What the guard goes by.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) state: AdminState,
    /// Where the socket listens.
    pub(super) address: Address,
}

/// Lets a request through or answers it.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let access = guard.state.control.admin_access();
    let (headers, uri) = (request.headers(), request.uri());
    if !is_own_host(&guard.address, &access.hosts, headers, uri) {
        return error(
            StatusCode::MISDIRECTED_REQUEST,
            "the admin API does not answer to this host name; use its address, or add the name to \
             `admin.hosts`",
        );
    }
    if let Some(token) = &access.token
        && !OPEN.contains(&uri.path())
        && !has_token(headers, token)
    {
        let refusal = error(
            StatusCode::UNAUTHORIZED,
            "the admin token is needed: send `Authorization: Bearer TOKEN`",
        );
        return ([(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))], refusal).into_response();
    }
    if changes_something(request.method()) && !is_json(headers) {
        return error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a request that changes something needs `Content-Type: application/json`",
        );
    }
    next.run(request).await
}

/// Every host that the request names has to be ours: that of the target too, if it has one.
fn is_own_host(address: &Address, hosts: &[String], headers: &HeaderMap, uri: &Uri) -> bool {
    // No page can make a browser open a Unix socket.
    let Address::Tcp(bound) = address else { return true };
    let mut fields = headers.get_all(HOST).iter();
    let (Some(host), None) = (fields.next(), fields.next()) else { return false };
    let authority = uri.authority().map(|authority| authority.as_str());
    [host.to_str().ok(), authority.or(host.to_str().ok())]
        .iter()
        .all(|named| named.is_some_and(|named| names_us(bound.ip(), hosts, named)))
}

fn names_us(bound: IpAddr, hosts: &[String], named: &str) -> bool {
    let host = without_port(named);
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        // Bound to all addresses, any of them may be ours; and it takes a name to rebind one.
        return ip.is_loopback() || ip == bound || bound.is_unspecified();
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

/// The port is not compared: a forwarded one differs from ours.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is inside of its brackets.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// RFC 6750 section 2.1. Takes as long for a wrong token as for a right one of the same length.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let Some(value) = headers.get(AUTHORIZATION) else { return false };
    let Some((scheme, given)) = split_once(value.as_bytes(), b' ') else { return false };
    scheme.eq_ignore_ascii_case(b"bearer")
        && verify_slices_are_equal(given.trim_ascii(), token.as_bytes()).is_ok()
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// What no address here takes is answered 405 by whatever is behind.
fn changes_something(method: &Method) -> bool {
    *method == Method::POST
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(bound: &str, host: &str) -> bool {
        names_us(bound.parse().unwrap(), &["ops.example.com".into()], host)
    }

    #[test]
    fn loopback_names_the_bound_address_and_own_names_are_ours() {
        for host in [
            "127.0.0.1:9900",
            "127.9.9.9",
            "[::1]:9900",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "192.0.2.7:9900",
            "OPS.example.com",
            "ops.example.com:80",
        ] {
            assert!(own("192.0.2.7", host), "{host}");
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "192.0.2.8",
            "evil.test:9900",
            "ops.example.com.evil.test",
            "127.0.0.1.evil.test",
            "[::2]:9900",
            "a@localhost",
            ":9900",
        ] {
            assert!(!own("192.0.2.7", host), "{host}");
        }
    }

    #[test]
    fn bound_to_all_addresses_every_address_is_ours_and_no_name() {
        assert!(own("0.0.0.0", "192.0.2.8:9900"));
        assert!(own("::", "[2001:db8::1]:9900"));
        assert!(!own("0.0.0.0", "evil.test"));
    }

    #[test]
    fn a_token_is_compared_whole() {
        let has = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            has_token(&headers, "secret")
        };
        assert!(has("Bearer secret") && has("bearer secret"));
        for wrong in
            ["Bearer secre", "Bearer secrets", "Bearer ", "Bearer", "Basic secret", "secret"]
        {
            assert!(!has(wrong), "{wrong}");
        }
    }
}
