//! Every case is fed whole, byte by byte and at random splits, and must get the same answer.

mod cases;
mod mutated;
mod under_hyper;

use fastrand::Rng;

use self::cases::{CASES, Case, Expect};
use super::*;
use crate::framing::bytes;

const LIMITS: Limits = Limits { max_header_bytes: 1024, max_headers: 20 };

/// What [`Scanner::feed`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// How many of the bytes were in order.
    pub(crate) accepted: usize,
    /// How many heads ended in them.
    pub(crate) heads: u64,
    /// What stands after them.
    pub(crate) violation: Option<Violation>,
}

impl Scanner {
    /// Takes in what is in order and decided.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Scan {
        let mut scan = Scan { accepted: 0, heads: 0, violation: None };
        while scan.accepted < bytes.len() && scan.violation.is_none() {
            let (passed, part) = self.next(&bytes[scan.accepted..]);
            scan.accepted += passed;
            match part {
                Ok(Part::Undecided) => break,
                Ok(part) => scan.heads += u64::from(part == Part::HeadEnd),
                Err(violation) => scan.violation = Some(violation),
            }
        }
        scan
    }
}

/// What a scanner made of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    violation: Option<Violation>,
    heads: u64,
    phase: Phase,
}

/// Feeds pieces until a violation or a hold.
fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Answer, usize) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut accepted, mut heads, mut violation) = (0, 0, None);
    for piece in pieces {
        let scan = scanner.feed(piece);
        accepted += scan.accepted;
        heads += scan.heads;
        violation = scan.violation;
        if violation.is_some() || scan.accepted < piece.len() {
            break;
        }
    }
    (Answer { violation, heads, phase: scanner.phase() }, accepted)
}

/// Cuts at seeded random places.
fn pieces<'a>(bytes: &'a [u8], rng: &mut Rng) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(40)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn expected(case: &Case) -> Answer {
    let (violation, heads, phase) = match case.expect {
        Expect::Pass(heads) => (None, heads, Phase::Idle),
        Expect::Until(heads, phase) => (None, heads, phase),
        Expect::Refuse(violation) => (Some(violation), 0, Phase::Refused),
        Expect::RefuseAfter(heads, violation) => (Some(violation), heads, Phase::Refused),
    };
    Answer { violation, heads, phase }
}

#[test]
fn cases_hold_for_every_split() {
    let mut rng = Rng::with_seed(7);
    for case in CASES {
        let bytes = case.bytes;
        let name = format!("{} ({})", case.name, case.clause);
        let wanted = expected(case);
        let (whole, accepted) = scan(std::iter::once(bytes));
        assert_eq!(whole, wanted, "{name}, whole");
        assert_eq!(accepted == bytes.len(), wanted.violation.is_none(), "{name}: accepted");
        let (single, accepted) = scan(bytes.chunks(1));
        assert_eq!(single, wanted, "{name}, byte by byte");
        assert_eq!(accepted == bytes.len(), wanted.violation.is_none(), "{name}: accepted");
        for round in 0..50 {
            let (split, _) = scan(pieces(bytes, &mut rng).into_iter());
            assert_eq!(split, wanted, "{name}, split {round}");
        }
    }
}

/// Lines behind others are judged twice where they are refused.
#[test]
fn a_field_in_front_changes_no_refusal() {
    for case in CASES.iter().filter(|case| matches!(case.expect, Expect::Refuse(_))) {
        let first = case.bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        let bytes = [first, b"X: y\r\n", &case.bytes[first.len()..]].concat();
        if first.len() > b"\r\n".len() {
            assert_eq!(scan(std::iter::once(&*bytes)).0, expected(case), "{}", case.name);
            assert_eq!(scan(bytes.chunks(1)).0, expected(case), "{}, byte by byte", case.name);
        }
    }
}

#[test]
fn case_names_are_unique() {
    let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn limits_are_exact() {
    let line = b"GET / HTTP/1.1\r\n".len();
    let host = b"Host: a\r\n".len();
    let head = |padding: usize| {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        head.extend(std::iter::repeat_n(b'x', padding));
        head.extend_from_slice(b"\r\n\r\n");
        head
    };
    let fits = 1024 - line - host - b"X: \r\n\r\n".len();
    for (padding, violation) in [(fits, None), (fits + 1, Some(Violation::HeadTooLarge))] {
        let head = head(padding);
        assert_eq!(scan(std::iter::once(&head[..])).0.violation, violation);
        assert_eq!(scan(head.chunks(1)).0.violation, violation);
    }

    let target = |len: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(len));
    let fits = 1024 - b"GET / HTTP/1.1\r\n".len();
    for (len, violation) in [(fits, None), (fits + 1, Some(Violation::RequestLineTooLong))] {
        let line = target(len);
        assert_eq!(scan(std::iter::once(line.as_bytes())).0.violation, violation);
        assert_eq!(scan(line.as_bytes().chunks(1)).0.violation, violation);
    }

    let fields = |count: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1)).into_bytes()
    };
    assert_eq!(scan(std::iter::once(&fields(20)[..])).0.violation, None);
    assert_eq!(scan(std::iter::once(&fields(21)[..])).0.violation, Some(Violation::TooManyFields));
}

/// The limit counts before an end of line is there, so that memory is bounded.
#[test]
fn a_line_without_end_is_bounded() {
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").violation, None);
    let mut fed = 0;
    while scanner.feed(b"xxxxxxxxxxxxxxxx").violation.is_none() {
        fed += 16;
        assert!(fed < 1024);
    }
    assert_eq!(scanner.feed(b"x").violation, Some(Violation::HeadTooLarge));
}

#[test]
fn chunk_extensions_are_bounded() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |len: usize| format!("1;{}\r\nx\r\n", "e".repeat(len));
    let one = |len| scan(std::iter::once(format!("{head}{}", chunk(len)).as_bytes())).0.violation;
    assert_eq!(one(256), None);
    assert_eq!(one(257), Some(Violation::ChunkExtensionTooLong));
    let many =
        |count| scan(std::iter::once(format!("{head}{}", chunk(256).repeat(count)).as_bytes())).0;
    assert_eq!(many(64).violation, None);
    assert_eq!(many(65).violation, Some(Violation::ChunkExtensionTooLong));
}

#[test]
fn phases_follow_the_bytes() {
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.phase(), Phase::Idle);
    let steps: [(&[u8], Phase); 9] = [
        (b"\r", Phase::Head),
        (b"\n", Phase::Idle),
        (b"P", Phase::Head),
        (b"OST / HTTP/1.1\r\nHost: a\r\n", Phase::Head),
        (b"Content-Length: 3\r\n\r\n", Phase::Body),
        (b"ab", Phase::Body),
        (b"c", Phase::Idle),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nG", Phase::Head),
        (b"ET / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Idle),
    ];
    let mut heads = 0;
    for (bytes, phase) in steps {
        let scan = scanner.feed(bytes);
        assert_eq!((scan.accepted, scan.violation), (bytes.len(), None));
        assert_eq!(scanner.phase(), phase, "after {:?}", String::from_utf8_lossy(bytes));
        heads += scan.heads;
    }
    assert_eq!(heads, 3);
    assert!(scanner.scratch.is_none());
}

#[test]
fn an_upgrade_holds_what_follows_until_it_is_decided() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                 Upgrade: websocket\r\n\r\n";
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(b"\x81\x00\n");

    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.feed(&bytes), Scan { accepted: head.len(), heads: 1, violation: None });
    assert_eq!(scanner.phase(), Phase::Upgrade);
    assert_eq!(scanner.feed(b"\x81").accepted, 0);
    scanner.resume();
    assert_eq!(scanner.phase(), Phase::Idle);
    assert_eq!(scanner.feed(b"\x81\x00\n").violation, Some(Violation::InvalidMethod));
}

#[test]
fn is_small_and_frees_its_buffer() {
    assert!(size_of::<Scanner>() <= 128, "{}", size_of::<Scanner>());
    let mut scanner = Scanner::new(LIMITS);
    for piece in b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n".chunks(3) {
        scanner.feed(piece);
    }
    assert!(scanner.scratch.is_none());
}

#[test]
fn what_was_found_of_a_head_outlives_a_release() {
    let mut scanner = Scanner::new(LIMITS);
    scanner.feed(b"GET / HTTP/1.1\r\nHost: a\r\n");
    scanner.release();
    scanner.feed(b"X: y\r\n\r\n");
    assert_eq!(scanner.spans().len(), 2);
    scanner.release();
    assert!(scanner.spans().is_empty());
}

/// A valid request and the phase's boundaries in it.
fn request(rng: &mut Rng) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let methods = ["GET", "POST", "PUT", "X-Y", "OPTIONS", "DELETE"];
    let targets = ["/", "/a/b.c?d=%20#"[..].trim_end_matches('#'), "http://a:80/x", "/..a/%2f"];
    let version = if rng.u8(..) < 40 { "HTTP/1.0" } else { "HTTP/1.1" };
    let (method, target) = (rng.choice(methods).unwrap(), rng.choice(targets).unwrap());
    if rng.u8(..) < 20 {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("{method} {target} {version}\r\nhost: A\r\n").as_bytes());
    for _ in 0..rng.u8(..8) {
        let name: String = (0..rng.u8(1..14)).map(|_| rng.alphanumeric()).collect();
        bytes.extend_from_slice(format!("x{name}:").as_bytes());
        bytes.extend((0..rng.u8(..40)).map(|_| match rng.u8(..) {
            byte if bytes::is_control(byte) => b'\t',
            byte => byte,
        }));
        bytes.extend_from_slice(b"\r\n");
    }
    let body = vec![b'\n'; rng.usize(..300)];
    if version == "HTTP/1.1" && rng.bool() {
        bytes.extend_from_slice(b"Transfer-Encoding: Chunked\r\n\r\n");
        let head_end = bytes.len();
        for chunk in body.chunks(rng.usize(1..100)) {
            let extension = rng.choice(["", ";a", "; a=b;c", ";a=\";\""]).unwrap();
            bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        let trailer = rng.choice(["", "X-Sum: 1\r\n"]).unwrap();
        bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
        return (bytes, head_end);
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    let head_end = bytes.len();
    bytes.extend_from_slice(&body);
    (bytes, head_end)
}

/// Heads and messages end exactly where they were made to end.
#[test]
fn boundaries_of_generated_requests() {
    let mut rng = Rng::with_seed(11);
    for _ in 0..300 {
        let requests: Vec<_> = (0..rng.usize(1..5)).map(|_| request(&mut rng)).collect();
        let mut scanner = Scanner::new(LIMITS);
        let mut seen = 0;
        for (count, (bytes, head_end)) in requests.iter().enumerate() {
            let text = String::from_utf8_lossy(bytes);
            for (at, byte) in bytes.iter().enumerate() {
                let scan = scanner.feed(&[*byte]);
                assert_eq!(scan.violation, None, "at {at} of {text:?}");
                seen += scan.heads;
                let heads = count as u64 + u64::from(at + 1 >= *head_end);
                assert_eq!(seen, heads, "at {at} of {text:?}");
                let ended = at + 1 == bytes.len();
                let before = at < 2 && bytes[0] == b'\r';
                assert_eq!(scanner.phase() == Phase::Idle, ended || before && at == 1, "{text:?}");
            }
        }
        let all: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let wanted = Answer { violation: None, heads: requests.len() as u64, phase: Phase::Idle };
        assert_eq!(scan(std::iter::once(&all[..])), (wanted, all.len()));
        for _ in 0..5 {
            let (answer, accepted) = scan(pieces(&all, &mut rng).into_iter());
            assert_eq!((answer.violation, accepted), (None, all.len()));
            assert_eq!(answer.heads, requests.len() as u64);
        }
    }
}

/// Valid requests with a few bytes changed: never a panic, and one answer for every split.
#[test]
fn broken_requests_get_one_answer() {
    let mut rng = Rng::with_seed(13);
    let marks = b"\r\n\0\t :;,0aF\x7f\xff#./%";
    for _ in 0..3000 {
        let mut bytes = Vec::new();
        for _ in 0..rng.usize(1..3) {
            bytes.extend(request(&mut rng).0);
        }
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[at] = *rng.choice(marks).unwrap(),
                1 => bytes.insert(at, *rng.choice(marks).unwrap()),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        let (whole, _) = scan(std::iter::once(&bytes[..]));
        let (single, _) = scan(bytes.chunks(1));
        assert_eq!(whole, single, "{:?}", String::from_utf8_lossy(&bytes));
        for _ in 0..3 {
            let (split, _) = scan(pieces(&bytes, &mut rng).into_iter());
            assert_eq!(whole, split, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng::with_seed(17);
    for _ in 0..5000 {
        let mut scanner = Scanner::new(LIMITS);
        for _ in 0..4 {
            let bytes: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
            let scan = scanner.feed(&bytes);
            assert!(scan.accepted <= bytes.len());
        }
    }
}

#[test]
fn every_violation_has_its_own_label() {
    let labels: std::collections::HashSet<_> = CASES
        .iter()
        .filter_map(|case| match case.expect {
            Expect::Refuse(violation) | Expect::RefuseAfter(_, violation) => Some(violation),
            _ => None,
        })
        .map(|violation| (violation, violation.label()))
        .collect();
    let distinct: std::collections::HashSet<_> = labels.iter().map(|(_, label)| label).collect();
    assert_eq!(labels.len(), distinct.len());
    for (violation, _) in labels {
        assert!(violation.status().is_client_error() || violation.status().is_server_error());
        assert!(!violation.reason().is_empty());
    }
}
