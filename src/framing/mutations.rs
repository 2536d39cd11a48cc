//! Messages that are nearly right, for tests: seeded, so that each run has the same ones.

use fastrand::Rng;

/// Bytes on which framing hangs, and some that may stand nowhere.
const TELLING: &[u8] = b"\r\n\0 \t:;,\"=0159afAFxX+-/.?#%@\x0b\x7f\x80\xff";

/// Some bytes with a few small changes.
pub(crate) fn mutated(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.usize(1..=3) {
        change(&mut bytes, rng);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(0..=bytes.len());
    let telling = TELLING[rng.usize(..TELLING.len())];
    match rng.u8(0..6) {
        0 => bytes.insert(at, telling),
        1 if at < bytes.len() => bytes[at] = telling,
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
        4 => {
            // A line, or a part of one, once more and elsewhere.
            let from = rng.usize(0..=at);
            let to =
                bytes[at..].iter().position(|byte| *byte == b'\n').map_or(at, |end| at + end + 1);
            let piece = bytes[from..to].to_vec();
            let place = rng.usize(0..=bytes.len());
            bytes.splice(place..place, piece);
        }
        _ => bytes.truncate(at),
    }
}
