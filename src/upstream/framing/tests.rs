//! Every case is fed whole, byte by byte and at random splits, and must get the same answer.

mod cases;
mod mutated;
mod under_hyper;

use fastrand::Rng;

use self::cases::{CASES, Case, Expect};
use super::*;

const LIMITS: Limits = Limits { max_header_bytes: 1024, max_headers: 20 };

/// How many of these bytes a scanner passes, and what stands behind those.
fn feed(scanner: &mut Scanner, bytes: &[u8]) -> (usize, Option<Violation>) {
    let mut accepted = 0;
    while accepted < bytes.len() {
        let (passed, part) = scanner.next(&bytes[accepted..]);
        accepted += passed;
        if let Err(violation) = part {
            return (accepted, Some(violation));
        }
    }
    (accepted, None)
}

/// What a scanner made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    accepted: usize,
    violation: Option<Violation>,
    idle: bool,
}

fn scan<'a>(asked: Asked, pieces: impl IntoIterator<Item = &'a [u8]>) -> Answer {
    let mut scanner = Scanner::new(LIMITS);
    scanner.ask(asked);
    let mut accepted = 0;
    for piece in pieces {
        let (passed, violation) = feed(&mut scanner, piece);
        accepted += passed;
        if violation.is_some() {
            return Answer { accepted, violation, idle: false };
        }
        assert_eq!(passed, piece.len());
    }
    Answer { accepted, violation: None, idle: scanner.is_idle() }
}

fn whole(bytes: &[u8]) -> Answer {
    scan(Asked::Plain, [bytes])
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

fn expected(case: &Case) -> (Option<Violation>, bool) {
    match case.expect {
        Expect::Whole(_) => (None, true),
        Expect::UntilClose(_) | Expect::Open => (None, false),
        Expect::Refuse(violation) | Expect::RefuseBody(violation) => (Some(violation), false),
        Expect::Surplus(_) => (Some(Violation::Unsolicited), false),
    }
}

#[test]
fn cases_hold_for_every_split() {
    let mut rng = Rng::with_seed(7);
    for case in CASES {
        let name = format!("{} ({})", case.name, case.clause);
        let one = scan(case.asked, [case.bytes]);
        assert_eq!((one.violation, one.idle), expected(case), "{name}, whole");
        assert_eq!(one.accepted == case.bytes.len(), one.violation.is_none(), "{name}: accepted");
        let single = scan(case.asked, case.bytes.chunks(1));
        assert_eq!((single.violation, single.idle), expected(case), "{name}, byte by byte");
        for round in 0..50 {
            let split = scan(case.asked, pieces(case.bytes, &mut rng));
            assert_eq!((split.violation, split.idle), expected(case), "{name}, split {round}");
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
fn nothing_is_an_answer_before_it_was_asked_for() {
    let mut scanner = Scanner::new(LIMITS);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(feed(&mut scanner, answer), (0, Some(Violation::Unsolicited)));
    scanner.ask(Asked::Plain);
    assert_eq!(feed(&mut scanner, answer), (0, Some(Violation::Unsolicited)), "asked too late");
}

#[test]
fn one_answer_after_another() {
    let mut scanner = Scanner::new(LIMITS);
    for _ in 0..3 {
        scanner.ask(Asked::Plain);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(feed(&mut scanner, chunked), (chunked.len(), None));
        assert!(scanner.is_idle());
        scanner.ask(Asked::Head);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(feed(&mut scanner, head), (head.len(), None));
        assert!(scanner.is_idle() && !scanner.is_spent());
    }
}

#[test]
fn a_tunnel_passes_everything() {
    let bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\0\n\r\r";
    assert_eq!(scan(Asked::Upgrade, [&bytes[..]]).violation, None);
    assert_eq!(scan(Asked::Upgrade, bytes.chunks(1)).violation, None);
}

#[test]
fn a_204_that_claims_a_body_is_the_last_answer() {
    for (length, spent) in [("0", false), ("3", true)] {
        let mut scanner = Scanner::new(LIMITS);
        scanner.ask(Asked::Plain);
        let head = format!("HTTP/1.1 204 No Content\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(feed(&mut scanner, head.as_bytes()).1, None);
        assert_eq!(scanner.is_spent(), spent, "{length}");
    }
}

#[test]
fn limits_are_exact() {
    let head = |padding: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: {}\r\n\r\n", "x".repeat(padding))
    };
    let fits = 1024 - head(0).len();
    for (padding, violation) in [(fits, None), (fits + 1, Some(Violation::HeadTooLarge))] {
        let head = head(padding);
        assert_eq!(whole(head.as_bytes()).violation, violation);
        assert_eq!(scan(Asked::Plain, head.as_bytes().chunks(1)).violation, violation);
    }
    let fields = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(whole(fields(20).as_bytes()).violation, None);
    assert_eq!(whole(fields(21).as_bytes()).violation, Some(Violation::TooManyFields));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let trailers = |count| format!("{chunked}{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(whole(trailers(20).as_bytes()).violation, None);
    assert_eq!(whole(trailers(21).as_bytes()).violation, Some(Violation::TooManyFields));
}

/// The limit counts before an end of line is there, so that memory is bounded.
#[test]
fn a_line_without_end_is_bounded() {
    for start in ["HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\nX: "] {
        let mut scanner = Scanner::new(LIMITS);
        scanner.ask(Asked::Plain);
        assert_eq!(feed(&mut scanner, start.as_bytes()).1, None);
        let mut fed = 0;
        while feed(&mut scanner, b"xxxxxxxxxxxxxxxx").1.is_none() {
            fed += 16;
            assert!(fed < 1024);
            assert!(scanner.partial.capacity() <= 2048);
        }
        assert_eq!(feed(&mut scanner, b"x"), (0, Some(Violation::HeadTooLarge)));
        assert_eq!(scanner.partial.capacity(), 0);
    }
}

#[test]
fn interim_answers_are_bounded() {
    let flood = |count| "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let enough = flood(MAX_INTERIM.into()) + answer;
    assert_eq!(whole(enough.as_bytes()).violation, None);
    let more = flood(usize::from(MAX_INTERIM) + 1) + answer;
    assert_eq!(whole(more.as_bytes()).violation, Some(Violation::TooManyInterim));
}

#[test]
fn is_small_and_frees_its_buffer() {
    assert!(size_of::<Scanner>() <= 112, "{}", size_of::<Scanner>());
    let mut scanner = Scanner::new(LIMITS);
    scanner.ask(Asked::Plain);
    for piece in b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".chunks(3) {
        assert_eq!(feed(&mut scanner, piece).1, None);
    }
    assert!(scanner.is_idle());
    assert_eq!(scanner.partial.capacity(), 0);
}

/// Answers with a few bytes changed: never a panic, and one verdict for every split.
#[test]
fn broken_answers_get_one_verdict() {
    let mut rng = Rng::with_seed(13);
    let marks = b"\r\n\0\t :;,0aF\x7f\xff12";
    for _ in 0..3000 {
        let case = rng.choice(CASES).unwrap();
        let mut bytes = case.bytes.to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[at] = *rng.choice(marks).unwrap(),
                1 => bytes.insert(at, *rng.choice(marks).unwrap()),
                _ if bytes.len() > 1 => {
                    bytes.remove(at);
                }
                _ => {}
            }
        }
        let verdict = |answer: Answer| (answer.violation, answer.idle);
        let one = verdict(scan(case.asked, [&bytes[..]]));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(one, verdict(scan(case.asked, bytes.chunks(1))), "{text:?}");
        for _ in 0..3 {
            assert_eq!(one, verdict(scan(case.asked, pieces(&bytes, &mut rng))), "{text:?}");
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng::with_seed(17);
    for _ in 0..5000 {
        let mut scanner = Scanner::new(LIMITS);
        scanner.ask(Asked::Plain);
        for _ in 0..4 {
            let bytes: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
            assert!(feed(&mut scanner, &bytes).0 <= bytes.len());
        }
    }
}

#[test]
fn every_violation_has_its_own_label() {
    let found: std::collections::HashSet<_> =
        CASES.iter().filter_map(|case| expected(case).0).collect();
    let labels: std::collections::HashSet<_> = found.iter().map(|found| found.label()).collect();
    assert_eq!(found.len(), labels.len());
    assert!(found.iter().all(|found| !found.reason().is_empty()));
}
