//! What is kept of the traffic of a backend, and for how long.

use super::ms;
use super::story::{Answer, FINE, Story, one_sick};
use crate::health::outliers::{Totals, Traffic};

#[test]
fn a_backend_without_traffic_keeps_nothing() {
    let mut story = Story::of(2);
    story.run(ms(5_000), 10.0, |_, _| FINE);
    assert!(!story.members[0].traffic.is_quiet());
    assert!(story.members[0].traffic.head_quantile(0.99).unwrap() < ms(3));
    story.run(ms(12_000), 0.0, |_, _| FINE);
    assert!(story.members[0].traffic.is_quiet());
    assert_eq!(story.members[0].traffic.head_quantile(0.99), None);
}

#[test]
fn an_illness_does_not_raise_its_own_measure() {
    let story = one_sick(100.0, 1, |_| Answer::After(ms(5_000)));
    let traffic = &story.members[1].traffic;
    assert!(traffic.head_quantile(0.99).unwrap() > ms(200));
    assert!(traffic.usual_p99().unwrap() < ms(3));
    assert_eq!(Traffic::new(&Totals::default()).usual_p99(), None);
}

#[test]
fn a_new_window_begins_empty() {
    let mut traffic = Traffic::new(&Totals::default());
    let totals = Totals { requests: 5, ..Totals::default() };
    traffic.observe(ms(1_000), ms(10_000), &totals);
    assert!(!traffic.is_quiet());
    traffic.observe(ms(1_000), ms(5_000), &totals);
    assert!(traffic.is_quiet());
}
