//! What is nearly an answer: however it is cut it is judged alike, and another parser finds no whole
//! answer in what was refused.

use fastrand::Rng;

use super::cases::{CASES, Expect};
use super::under_hyper::{Seen, ask};
use super::{pieces, scan};
use crate::framing::mutations::mutated;

/// So many of each case.
const ROUNDS: usize = 60;

#[test]
fn it_is_judged_alike_however_it_is_cut() {
    let mut rng = Rng::with_seed(13);
    for case in CASES.iter().filter(|case| matches!(case.expect, Expect::Whole(_))) {
        for _ in 0..ROUNDS {
            let bytes = mutated(case.bytes, &mut rng);
            let whole = scan(case.asked, [&bytes[..]]);
            let shown = String::from_utf8_lossy(&bytes);
            let single = scan(case.asked, bytes.chunks(1));
            assert_eq!((single.violation, single.idle), (whole.violation, whole.idle), "{shown:?}");
            let cut = scan(case.asked, pieces(&bytes, &mut rng));
            assert_eq!((cut.violation, cut.idle), (whole.violation, whole.idle), "{shown:?}");
        }
    }
}

#[test]
fn hyper_finds_an_answer_where_one_was_passed_whole() {
    let mut rng = Rng::with_seed(17);
    let (mut whole, mut found) = (0, 0);
    for case in CASES.iter().filter(|case| matches!(case.expect, Expect::Whole(_))) {
        for _ in 0..ROUNDS / 4 {
            let bytes = mutated(case.bytes, &mut rng);
            let ours = scan(case.asked, [&bytes[..]]);
            let theirs = ask(case.asked, vec![bytes.clone()]);
            if ours.violation.is_none() && ours.idle {
                whole += 1;
                found += u32::from(matches!(theirs, Seen::Body(_)));
            }
        }
    }
    assert!(found * 10 >= whole * 9, "{found} of {whole}");
}
