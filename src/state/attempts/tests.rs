use super::*;

const ONE: usize = 0;
const OTHER: usize = 1;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn head(at: u64, age: u64, status: u16) -> Head {
    Head { at: ms(at), age: ms(age), status }
}

fn answer(backend: &Backend, worker: usize, at: u64, age: u64, status: u16) {
    backend.note_head(WorkerId::new(worker), head(at, age, status), Marks::default());
}

fn end(backend: &Backend, outcome: Outcome, status: Option<u16>) {
    backend.note_end(WorkerId::new(ONE), outcome, status);
}

/// What it did since the beginning.
fn counts(backend: &Backend) -> Counts {
    backend.since(&mut Seen::default(), &mut Latencies::default())
}

#[test]
fn workers_are_summed() {
    let backend = Backend::sample(3001);
    for worker in [ONE, ONE, OTHER] {
        let worker = WorkerId::new(worker);
        backend.note_head(worker, head(100, 2, 200), Marks::default());
        backend.note_end(worker, Outcome::Success { body: true }, Some(200));
    }
    let totals = backend.totals();
    assert_eq!((totals.requests, totals.bodies, totals.failures), (3, 3, 0));
    assert_eq!(totals.heads[outliers::bucket(ms(2))], 3);
}

#[test]
fn outcomes_count_for_both_judges() {
    for (outcome, status, totals, sample) in [
        (Outcome::Success { body: true }, Some(200), (0, 1, 0), (1, 0)),
        (Outcome::Success { body: false }, Some(404), (0, 0, 0), (0, 0)),
        (Outcome::ServerError { body: true }, Some(500), (1, 1, 0), (1, 1)),
        (Outcome::Failure, Some(503), (1, 0, 0), (1, 1)),
        (Outcome::Failure, None, (1, 0, 0), (1, 1)),
        (Outcome::BrokeOff, Some(200), (1, 1, 1), (1, 1)),
    ] {
        let backend = Backend::sample(3001);
        end(&backend, outcome, status);
        let seen = backend.totals();
        assert_eq!((seen.failures, seen.bodies, seen.broken_off), totals, "{outcome:?} {status:?}");
        let seen = counts(&backend);
        assert_eq!((seen.requests, seen.failed), sample, "{outcome:?} {status:?}");
    }
}

#[test]
fn error_pages_are_no_sign_of_speed() {
    let backend = Backend::sample(3001);
    answer(&backend, ONE, 100, 1, 500);
    assert_eq!(backend.totals().heads.iter().sum::<u64>(), 0);
    answer(&backend, ONE, 100, 1, 404);
    assert_eq!(backend.totals().heads.iter().sum::<u64>(), 1);
}

#[test]
fn a_late_attempt_counts_once_when_it_passes_the_age() {
    let backend = Backend::sample(3001);
    backend.yardstick.set_late_after(Some(ms(250)));
    let mut marks = Marks::default();
    let worker = WorkerId::new(ONE);
    for (now, overdue) in [(350, 0), (351, 1), (400, 1)] {
        backend.note_waiting(worker, ms(now), ms(100), &mut marks);
        assert_eq!(backend.totals().overdue, overdue, "at {now} ms");
    }
    backend.note_head(worker, head(500, 400, 200), marks);
    assert_eq!(backend.totals().heads.iter().sum::<u64>(), 0);
}

#[test]
fn slow_attempts_count_once_whether_their_head_comes_or_not() {
    let backend = Backend::sample(3001);
    let worker = WorkerId::new(ONE);
    backend.yardstick.count_slow(Some(Slow { limit: ms(100), from: ms(1_000) }));
    // Begun before, in time, late, and so late that it was seen waiting.
    answer(&backend, ONE, 1_100, 101, 200);
    answer(&backend, ONE, 1_100, 50, 200);
    answer(&backend, ONE, 1_200, 150, 200);
    let mut marks = Marks::default();
    backend.note_waiting(worker, ms(1_500), ms(1_000), &mut marks);
    backend.note_waiting(worker, ms(1_600), ms(1_000), &mut marks);
    backend.note_head(worker, head(1_700, 700, 200), marks);
    let seen = counts(&backend);
    assert_eq!((seen.timed, seen.slow), (3, 2));
    backend.yardstick.count_slow(None);
    answer(&backend, ONE, 2_000, 500, 200);
    assert_eq!(counts(&backend), seen);
}

#[test]
fn who_waits_for_long_is_known_until_the_wait_is_over() {
    let backend = Backend::sample(3001);
    let worker = WorkerId::new(ONE);
    let mut marks = [Marks::default(); 2];
    for marks in &mut marks {
        backend.note_waiting(worker, ms(5_000), ms(0), marks);
        assert_eq!(backend.long_waits(), 0);
    }
    for now in [5_001, 5_026] {
        marks.iter_mut().for_each(|marks| backend.note_waiting(worker, ms(now), ms(0), marks));
        assert_eq!(backend.long_waits(), 2);
    }
    backend.note_waited(worker, marks[0]);
    backend.note_waited(worker, Marks::default());
    assert_eq!(backend.long_waits(), 1);
}

#[test]
fn only_what_is_new_is_told() {
    let backend = Backend::sample(3001);
    let (mut seen, mut latencies) = (Seen::default(), Latencies::default());
    answer(&backend, ONE, 100, 5, 200);
    end(&backend, Outcome::Success { body: false }, Some(200));
    assert_eq!(backend.since(&mut seen, &mut latencies).requests, 1);
    assert!(latencies.is_empty(), "nobody compares versions");
    backend.yardstick.compare(true);
    answer(&backend, OTHER, 100, 5, 200);
    end(&backend, Outcome::Failure, None);
    let more = backend.since(&mut seen, &mut latencies);
    assert_eq!((more.requests, more.failed, latencies.count()), (1, 1, 1));
    assert_eq!(backend.since(&mut seen, &mut latencies), Counts::default());
    assert_eq!(latencies.count(), 1);
}

#[test]
fn silence_ends_with_a_head_on_any_worker() {
    let backend = Backend::sample(3001);
    answer(&backend, ONE, 100, 1, 200);
    answer(&backend, OTHER, 300, 1, 500);
    backend.yardstick.set_cleared(ms(200));
    assert_eq!(backend.silence(), Silence { last_head: ms(300), cleared: ms(200) });
}

#[test]
fn activity_shows_without_a_sum() {
    let backend = Backend::sample(3001);
    assert_eq!(backend.activity(), 0);
    let mut last = 0;
    for step in 0..3 {
        match step {
            0 => end(&backend, Outcome::Failure, None),
            1 => answer(&backend, ONE, 100, 1, 200),
            _ => {
                backend.yardstick.set_late_after(Some(ms(1)));
                backend.note_waiting(WorkerId::new(ONE), ms(100), ms(50), &mut Marks::default());
            }
        }
        assert_ne!(backend.activity(), last, "step {step}");
        last = backend.activity();
    }
}

#[test]
fn alarms_come_at_the_limit() {
    let backend = Backend::sample(3001);
    backend.yardstick.set_consecutive_failures(2);
    let worker = WorkerId::new(ONE);
    assert_eq!(backend.note_end(worker, Outcome::Failure, None), None);
    assert_eq!(backend.note_end(worker, Outcome::Failure, None), Some(Alarm::Failures(2)));
}
