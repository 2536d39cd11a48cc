//! The name of a request, and the trace of the processes that it went through.

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderValue};

use super::{HOPS, X_REQUEST_ID, members};

/// The longest request id that is taken over from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// An id of ours, in hexadecimal digits.
const ID_BYTES: usize = 32;

/// Ids that are made at once.
const AT_A_TIME: usize = 16;

/// After so many processes of ours a request is in a loop, whichever they are.
const MAX_HOPS: usize = 16;

/// Takes out the id that a client gave its request, if there is one, and gives it back if it is
/// sane.
pub fn take_request_id(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut given = headers.get_all(&X_REQUEST_ID).iter();
    let one = match (given.next(), given.next()) {
        (Some(id), None) if is_sane_id(id.as_bytes()) => Some(id.clone()),
        _ => None,
    };
    headers.remove(&X_REQUEST_ID);
    one.map(unlike_any_other)
}

/// New ids, of 128 random bits each. They are made several at a time, since memory for a piece of 32
/// bytes costs as much as for a page of them.
#[derive(Debug, Default)]
pub struct RequestIds(Bytes);

impl RequestIds {
    /// The next one.
    pub fn next(&mut self, rng: &mut Rng) -> HeaderValue {
        if self.0.is_empty() {
            self.0 = (0..AT_A_TIME).flat_map(|_| hex(rng.u128(..))).collect();
        }
        unlike_any_other(visible(self.0.split_to(ID_BYTES)))
    }
}

/// A value that HTTP/2 is not to remember (RFC 7541 section 7.1.3): no two are the same, so they
/// would drive everything else out of the table and make each search in it a long one.
fn unlike_any_other(mut id: HeaderValue) -> HeaderValue {
    id.set_sensitive(true);
    id
}

/// Ids go into logs, pages and shells: nothing that any of these would take for more than a word.
fn is_sane_id(id: &[u8]) -> bool {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte);
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(sane)
}

/// A random name for this process, made once at start, to know itself again by.
pub fn instance_id(rng: &mut Rng) -> HeaderValue {
    visible(Bytes::copy_from_slice(&hex(rng.u128(..))))
}

#[expect(clippy::expect_used, reason = "hexadecimal digits are visible ASCII")]
fn visible(digits: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(digits).expect("hexadecimal digits are a valid field value")
}

fn hex(number: u128) -> [u8; ID_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; ID_BYTES];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// True if a request went through this process before, or through too many like it.
pub fn is_loop(headers: &HeaderMap, instance: &HeaderValue) -> bool {
    let mut hops = 0;
    members(headers, &HOPS).any(|hop| {
        hops += 1;
        hop == instance.as_bytes() || hops >= MAX_HOPS
    })
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
            assert_eq!(take_request_id(&mut headers).unwrap(), id);
            assert!(headers.is_empty(), "it is added again with what is ours");
        }
    }

    #[test]
    fn other_ids_are_not_believed() {
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
            assert_eq!(take_request_id(&mut headers), None, "{lines:?}");
            assert!(headers.is_empty(), "{lines:?}");
        }
    }

    #[test]
    fn ids_are_not_for_the_tables_of_http_2() {
        let given = take_request_id(&mut map(&[("x-request-id", "given")]));
        assert!(given.is_some_and(|id| id.is_sensitive()));
        assert!(RequestIds::default().next(&mut Rng::with_seed(1)).is_sensitive());
    }

    #[test]
    fn new_ids_are_words_that_differ() {
        let (mut ids, mut rng) = (RequestIds::default(), Rng::with_seed(1));
        let made: Vec<_> = (0..3 * AT_A_TIME).map(|_| ids.next(&mut rng)).collect();
        for (at, id) in made.iter().enumerate() {
            assert!(id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit), "{id:?}");
            assert!(!made[..at].contains(id), "{id:?}");
        }
    }

    #[test]
    fn a_loop_is_seen() {
        let me = HeaderValue::from_static("me");
        let mut headers = HeaderMap::new();
        assert!(!is_loop(&headers, &me));
        headers.append(&HOPS, HeaderValue::from_static("other"));
        assert!(!is_loop(&headers, &me));
        headers.append(&HOPS, me.clone());
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
            headers.append(&HOPS, HeaderValue::from(hops));
        }
        assert!(is_loop(&headers, &me));
    }
}
