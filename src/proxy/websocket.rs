//! The opening handshake's key and its answer (RFC 6455 section 4), for WebSockets that come over
//! HTTP/2 and go on over HTTP/1.1: RFC 8441 has no key, so we bring our own and check the answer.

mod frames;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use http::HeaderValue;

pub use frames::Frames;

/// A close frame of a server, with the status 1001: it is going away (RFC 6455 section 7.4.1).
pub const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// A fresh `Sec-WebSocket-Key`. It guards against caches, not against people (section 10.8), so
/// any even randomness does.
pub fn fresh_key(rng: &mut Rng) -> HeaderValue {
    let mut encoded = [0; 24];
    let nonce = rng.u128(..).to_be_bytes();
    // 16 bytes are exactly 24 in base64.
    let _ = STANDARD.encode_slice(nonce, &mut encoded);
    value(&encoded)
}

/// The `Sec-WebSocket-Accept` that answers this key.
pub fn accept_for(key: &[u8]) -> HeaderValue {
    value(&accept(key))
}

/// True if `accept` answers `key`, that is if the backend understood a WebSocket handshake.
pub fn is_accepted(key: &HeaderValue, answer: Option<&HeaderValue>) -> bool {
    answer.is_some_and(|answer| answer.as_bytes() == accept(key.as_bytes()))
}

fn accept(key: &[u8]) -> [u8; 28] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut encoded = [0; 28];
    // 20 bytes are exactly 28 in base64.
    let _ = STANDARD.encode_slice(context.finish(), &mut encoded);
    encoded
}

#[expect(clippy::expect_used, reason = "base64 is visible ASCII")]
fn value(encoded: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(encoded).expect("base64 is a valid field value")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 section 1.3.
    #[test]
    fn the_standard_s_own_example() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let answer = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept_for(key.as_bytes()), answer);
        assert!(is_accepted(&key, Some(&answer)));
    }

    #[test]
    fn keys_are_16_bytes_and_fresh() {
        let mut rng = Rng::with_seed(1);
        let (one, two) = (fresh_key(&mut rng), fresh_key(&mut rng));
        assert_ne!(one, two);
        assert_eq!(STANDARD.decode(one.as_bytes()).unwrap().len(), 16);
        assert!(is_accepted(&one, Some(&accept_for(one.as_bytes()))));
        assert!(!is_accepted(&one, Some(&accept_for(two.as_bytes()))));
        assert!(!is_accepted(&one, None));
    }
}
