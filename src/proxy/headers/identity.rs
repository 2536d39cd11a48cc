//! The name of a request, and the trace of the processes that it went through.

use fastrand::Rng;
use http::{HeaderMap, HeaderValue};

use super::{HOPS, X_REQUEST_ID, members};

/// The longest request id that is taken over from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// After so many processes of ours a request is in a loop, whichever they are.
const MAX_HOPS: usize = 16;

/// The request's id: the client's if it is sane, or else a new one of 128 random bits. It is put into
/// `headers` as a field that HTTP/2 is not to remember (RFC 7541 section 7.1.3): no two are the same,
/// so they would drive everything else out of the table and make each search in it a long one.
pub fn request_id(headers: &mut HeaderMap, rng: &mut Rng) -> HeaderValue {
    let mut given = headers.get_all(&X_REQUEST_ID).iter();
    if let (Some(id), None) = (given.next(), given.next())
        && is_sane_id(id.as_bytes())
    {
        let mut id = id.clone();
        id.set_sensitive(true);
        headers.insert(&X_REQUEST_ID, id.clone());
        return id;
    }
    let mut id = hex(rng.u128(..).to_be_bytes());
    id.set_sensitive(true);
    headers.insert(&X_REQUEST_ID, id.clone());
    id
}

/// Ids go into logs, pages and shells: nothing that any of these would take for more than a word.
fn is_sane_id(id: &[u8]) -> bool {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte);
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(sane)
}

/// A random name for this process, made once at start, to know itself again by.
pub fn instance_id(rng: &mut Rng) -> HeaderValue {
    hex(rng.u128(..).to_be_bytes())
}

#[expect(clippy::expect_used, reason = "hexadecimal digits are visible ASCII")]
fn hex(bytes: [u8; 16]) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits are a valid field value")
}

/// True if a request went through this process before, or through too many like it.
pub fn is_loop(headers: &HeaderMap, instance: &HeaderValue) -> bool {
    let mut hops = 0;
    members(headers, &HOPS).any(|hop| {
        hops += 1;
        hop == instance.as_bytes() || hops >= MAX_HOPS
    })
}

/// Notes that a request goes through this process.
pub fn add_hop(headers: &mut HeaderMap, instance: &HeaderValue) {
    headers.append(&HOPS, instance.clone());
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn sane_ids_are_kept() {
        let longest = "x".repeat(128);
        for id in ["1", "a-B_c.d~e:f/g+h=@", "00000000-0000-4000-8000-000000000000", &longest] {
            let mut headers = map(&[("x-request-id", id)]);
            assert_eq!(request_id(&mut headers, &mut Rng::with_seed(1)), id);
            assert_eq!(headers, map(&[("x-request-id", id)]));
        }
    }

    #[test]
    fn other_ids_are_replaced() {
        let too_long = "x".repeat(129);
        let lines: [&[(&str, &str)]; 8] = [
            &[],
            &[("x-request-id", "")],
            &[("x-request-id", "a b")],
            &[("x-request-id", "<script>")],
            &[("x-request-id", "a\"b")],
            &[("x-request-id", "a\tb")],
            &[("x-request-id", &too_long)],
            &[("x-request-id", "a"), ("x-request-id", "b")],
        ];
        for lines in lines {
            let mut headers = map(lines);
            let id = request_id(&mut headers, &mut Rng::with_seed(1));
            assert_eq!(id.len(), 32, "{lines:?}");
            assert!(id.as_bytes().iter().all(u8::is_ascii_hexdigit), "{lines:?}");
            let all: Vec<_> = headers.get_all(&X_REQUEST_ID).iter().collect();
            assert_eq!(all, [&id], "{lines:?}");
        }
    }

    #[test]
    fn ids_are_not_for_the_tables_of_http_2() {
        for lines in [&[][..], &[("x-request-id", "given")]] {
            let mut headers = map(lines);
            assert!(request_id(&mut headers, &mut Rng::with_seed(1)).is_sensitive());
            assert!(headers[&X_REQUEST_ID].is_sensitive());
        }
    }

    #[test]
    fn ids_differ() {
        let mut rng = Rng::with_seed(1);
        let mut id = || request_id(&mut HeaderMap::new(), &mut rng);
        assert_ne!(id(), id());
    }

    #[test]
    fn a_loop_is_seen() {
        let me = HeaderValue::from_static("me");
        let mut headers = HeaderMap::new();
        assert!(!is_loop(&headers, &me));
        add_hop(&mut headers, &HeaderValue::from_static("other"));
        assert!(!is_loop(&headers, &me));
        add_hop(&mut headers, &me);
        assert!(is_loop(&headers, &me));
        assert!(is_loop(&map(&[("tidegate-hops", "a, me ,b")]), &me));
        assert!(!is_loop(&map(&[("tidegate-hops", "a, mee, b")]), &me));
    }

    #[test]
    fn too_many_hops_are_a_loop() {
        let me = HeaderValue::from_static("me");
        let mut headers = HeaderMap::new();
        for hops in 0..16 {
            assert!(!is_loop(&headers, &me), "{hops}");
            add_hop(&mut headers, &HeaderValue::from(hops));
        }
        assert!(is_loop(&headers, &me));
    }
}
