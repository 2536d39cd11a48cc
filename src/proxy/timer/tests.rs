use super::*;

async fn expired(timer: &Timer) {
    std::future::poll_fn(|cx| timer.poll_expired(cx)).await;
}

/// A paused clock and a turning wheel.
fn turning(test: impl AsyncFnOnce(Rc<Wheel>)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async {
        let wheel = Wheel::new();
        tokio::task::spawn_local(Rc::clone(&wheel).run());
        test(wheel).await;
    });
}

#[test]
fn expires_within_a_tick_of_its_deadline() {
    turning(async |wheel| {
        let start = Instant::now();
        let timer = wheel.timer();
        timer.arm(start + Duration::from_millis(333));
        expired(&timer).await;
        let late = start.elapsed() - Duration::from_millis(333);
        assert!(late <= TICK, "{late:?} late");
    });
}

#[test]
fn counts_as_armed_until_its_expiry_is_taken_note_of() {
    turning(async |wheel| {
        let timer = wheel.timer();
        timer.arm(Instant::now() + Duration::from_millis(20));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(timer.is_armed());
        expired(&timer).await;
        assert!(!timer.is_armed());
    });
}

#[test]
fn a_deadline_beyond_the_wheel_is_kept() {
    turning(async |wheel| {
        let start = Instant::now();
        let timer = wheel.timer();
        timer.arm(start + Duration::from_secs(75));
        expired(&timer).await;
        let late = start.elapsed() - Duration::from_secs(75);
        assert!(late <= TICK, "{late:?} late");
    });
}

#[test]
fn wherever_a_deadline_lies_it_is_kept() {
    turning(async |wheel| {
        let start = Instant::now();
        for length in (0..3000).step_by(7) {
            let timer = wheel.timer();
            let begin = Instant::now();
            let deadline = begin + Duration::from_millis(length);
            timer.arm(deadline);
            expired(&timer).await;
            let late = Instant::now() - deadline;
            assert!(late <= TICK, "{late:?} late, {length} ms from {:?} on", begin - start);
        }
    });
}

#[test]
fn a_deadline_moved_nearer_behind_one_far_away_is_kept() {
    turning(async |wheel| {
        let at = |millis| wheel.origin + Duration::from_millis(millis);
        let (first, far, timer) = (wheel.timer(), wheel.timer(), wheel.timer());
        first.arm(at(620));
        expired(&first).await;
        // Just within what is far, so its slot is its own. The next one's is a coarse one before it.
        far.arm(at(1900));
        tokio::time::sleep(Duration::from_millis(1)).await;
        timer.arm(at(1910));
        timer.arm(at(1290));
        expired(&timer).await;
        let late = Instant::now() - at(1290);
        assert!(late <= TICK, "{late:?} late");
    });
}

/// A time up to the length of the whole wheel and beyond, most often about where the wheel becomes
/// coarse.
fn some_time(random: &mut fastrand::Rng) -> Duration {
    let most_millis = [20, 700, 2_000, 2_000, 11_000, 100_000][random.usize(0..6)];
    Duration::from_micros(random.u64(0..most_millis * 1000))
}

/// Arms timers, moves them to and fro, drops them, and waits for each that is left.
async fn wait_and_move(wheel: Rc<Wheel>, mut random: fastrand::Rng) {
    let mut timer = wheel.timer();
    for _ in 0..60 {
        if random.bool() {
            timer = wheel.timer();
        }
        let mut deadline = Instant::now() + some_time(&mut random);
        timer.arm(deadline);
        for _ in 0..random.u8(0..3) {
            if random.bool() {
                tokio::time::sleep((deadline - Instant::now()).mul_f64(random.f64() / 2.0)).await;
            }
            if random.bool() {
                timer.disarm();
            }
            deadline = Instant::now() + some_time(&mut random);
            timer.arm(deadline);
        }
        expired(&timer).await;
        let late = Instant::now().checked_duration_since(deadline);
        assert!(late.is_some_and(|late| late <= TICK), "{late:?} late");
        tokio::time::sleep(some_time(&mut random)).await;
    }
}

#[test]
fn whoever_moves_beside_them_deadlines_are_kept() {
    for seed in 0..100 {
        turning(async |wheel| {
            let mut crowd = tokio::task::JoinSet::new();
            for number in 0..3 {
                let random = fastrand::Rng::with_seed(seed * 100 + number);
                crowd.spawn_local(wait_and_move(Rc::clone(&wheel), random));
            }
            crowd.join_all().await;
        });
    }
}

#[test]
fn the_next_slot_is_found_wherever_it_is() {
    let wheel = Wheel::new();
    let mut inner = wheel.inner.borrow_mut();
    let slots: Vec<u64> = (1..SLOTS).step_by(31).collect();
    for handled in [0, 1, 62, 63, 64, SLOTS - 1, SLOTS, 7 * SLOTS + 500] {
        inner.handled = handled;
        for ahead in &slots {
            let tick = handled + ahead;
            inner.occupied[(tick % SLOTS / 64) as usize] |= 1 << (tick % 64);
            assert_eq!(inner.next_due(), Some(tick), "{ahead} ahead of {handled}");
            inner.take_slot(tick);
            assert_eq!(inner.next_due(), None);
        }
    }
}

#[test]
fn who_is_idle_is_seldom_looked_at() {
    turning(async |wheel| {
        let mut crowd = Vec::new();
        for _ in 0..1000 {
            let timer = wheel.timer();
            timer.arm(Instant::now() + Duration::from_secs(75));
            crowd.push(timer);
            // Something is always due meanwhile.
            let other = wheel.timer();
            other.arm(Instant::now() + TICK);
            expired(&other).await;
        }
        let in_use = |inner: &Inner| inner.slots.iter().filter(|slot| !slot.is_empty()).count();
        let most = (SLOTS / COARSE) as usize;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(777)).await;
            let count = in_use(&wheel.inner.borrow());
            assert!(count <= most, "{count} slots are to be visited");
        }
    });
}

#[test]
fn a_deadline_moved_away_expires_at_its_new_time() {
    turning(async |wheel| {
        let start = Instant::now();
        let timer = wheel.timer();
        timer.arm(start + Duration::from_millis(50));
        timer.arm(start + Duration::from_millis(500));
        expired(&timer).await;
        assert!(start.elapsed() >= Duration::from_millis(500));
    });
}

#[test]
fn a_deadline_moved_nearer_expires_at_its_new_time() {
    turning(async |wheel| {
        let start = Instant::now();
        let timer = wheel.timer();
        timer.arm(start + Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(1)).await;
        timer.arm(start + Duration::from_millis(100));
        expired(&timer).await;
        assert!(start.elapsed() <= Duration::from_millis(111));
    });
}

#[test]
fn a_disarmed_timer_stays_silent() {
    turning(async |wheel| {
        let (timer, other) = (wheel.timer(), wheel.timer());
        timer.arm(Instant::now() + Duration::from_millis(50));
        other.arm(Instant::now() + Duration::from_millis(500));
        timer.disarm();
        let first = std::future::poll_fn(|cx| match timer.poll_expired(cx) {
            Poll::Ready(()) => Poll::Ready("disarmed"),
            Poll::Pending => other.poll_expired(cx).map(|()| "other"),
        });
        assert_eq!(first.await, "other");
    });
}

#[test]
fn a_timer_can_be_made_to_expire() {
    turning(async |wheel| {
        let start = Instant::now();
        let timer = wheel.timer();
        timer.arm(start + Duration::from_secs(60));
        let expire = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            wheel.expire(timer.key().unwrap());
        };
        tokio::join!(expired(&timer), expire);
        assert!(start.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn the_next_timer_gets_what_a_dropped_one_left() {
    turning(async |wheel| {
        let other = wheel.timer();
        for _ in 0..100 {
            wheel.timer().arm(Instant::now() + Duration::from_millis(20));
        }
        other.arm(Instant::now() + Duration::from_millis(200));
        expired(&other).await;
        assert_eq!(wheel.inner.borrow().entries.len(), 1);
    });
}

#[test]
fn what_a_crowd_took_up_is_given_back_when_nobody_is_left() {
    turning(async |wheel| {
        let armed = |seconds| {
            let timer = wheel.timer();
            timer.arm(Instant::now() + Duration::from_secs(seconds));
            timer
        };
        let room = || {
            let inner = wheel.inner.borrow();
            inner.entries.capacity().max(inner.spare.capacity())
        };
        let crowd: Vec<_> = (0..1000).map(|_| armed(1)).collect();
        let last = armed(3);
        drop(crowd);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(room() > 1000, "one has its place behind theirs");
        expired(&last).await;
        drop(last);
        drop(armed(1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(room() <= KEPT_ENTRIES);
    });
}

#[test]
fn a_tick_comes_in_its_time_after_years_too() {
    turning(async |wheel| {
        let years = wheel.origin + Duration::from_secs(3 * 365 * 86_400);
        assert_eq!(wheel.due(wheel.tick_after(years)), years);
    });
}

#[test]
fn armed_after_a_long_quiet_time_it_still_expires_on_time() {
    turning(async |wheel| {
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let start = Instant::now();
        let timer = wheel.timer();
        timer.arm(start + Duration::from_millis(70));
        expired(&timer).await;
        assert!(start.elapsed() <= Duration::from_millis(81), "{:?}", start.elapsed());
    });
}
