//! What is nearly a request: however it is cut it is judged alike, and another parser sees no more in
//! it than was passed.

use fastrand::Rng;

use super::super::{Part, Phase, Scanner};
use super::cases::{CASES, Expect};
use super::under_hyper::{Seen, serve};
use super::{LIMITS, pieces, scan};
use crate::framing::mutations::mutated;

/// So many of each case.
const ROUNDS: usize = 60;

fn nearly_requests(mut test: impl FnMut(&[u8], &mut Rng)) {
    let mut rng = Rng::with_seed(11);
    for case in CASES.iter().filter(|case| matches!(case.expect, Expect::Pass(_))) {
        for _ in 0..ROUNDS {
            let bytes = mutated(case.bytes, &mut rng);
            test(&bytes, &mut rng);
        }
    }
}

/// Requests that are passed whole, and those that break off in their body.
fn passed(bytes: &[u8]) -> Seen {
    let mut scanner = Scanner::new(LIMITS);
    let (mut at, mut heads) = (0, 0);
    let phase = loop {
        let phase = scanner.phase();
        if at == bytes.len() {
            break phase;
        }
        let (passed, part) = scanner.next(&bytes[at..]);
        at += passed;
        match part {
            Ok(Part::Undecided) | Err(_) => break phase,
            Ok(part) => heads += u64::from(part == Part::HeadEnd),
        }
    };
    let broken = u64::from(phase == Phase::Body);
    Seen { whole: heads - broken, broken }
}

#[test]
fn it_is_judged_alike_however_it_is_cut() {
    nearly_requests(|bytes, rng| {
        let (whole, _) = scan(std::iter::once(bytes));
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(scan(bytes.chunks(1)).0, whole, "byte by byte: {shown:?}");
        assert_eq!(scan(pieces(bytes, rng).into_iter()).0, whole, "cut: {shown:?}");
    });
}

#[test]
fn hyper_sees_no_more_in_it_than_was_passed() {
    let (mut all, mut alike) = (0, 0);
    nearly_requests(|bytes, _| {
        let (ours, theirs) = (passed(bytes), serve(vec![bytes.to_vec()]));
        let shown = String::from_utf8_lossy(bytes);
        assert!(theirs.whole <= ours.whole, "{ours:?} {theirs:?} {shown:?}");
        assert!(theirs.whole + theirs.broken <= ours.whole + ours.broken, "{theirs:?} {shown:?}");
        all += 1;
        alike += u32::from(theirs == ours);
    });
    // It refuses some targets and names that only our next step refuses.
    assert!(alike * 10 >= all * 9, "{alike} of {all} are seen alike");
}
