use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::balance::affinity::Key;
use crate::control::compile::{Context, Generation, compile};
use crate::health::outliers::Outcome;
use crate::state::WorkerId;

/// The judge of a pool of three backends, with these keys of its outlier detection.
struct Scene {
    shared: Arc<Shared>,
    outliers: Outliers,
    generation: Generation,
}

fn text(backends: &[u16], keys: &str) -> String {
    let backends: Vec<String> =
        backends.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let backends = backends.join(", ");
    format!(
        "[listeners.http]\nbind = \"127.0.0.1:0\"\n[[routes]]\npool = \"app\"\n\
         [pools.app]\nbackends = [{backends}]\n[pools.app.outliers]\n{keys}\n"
    )
}

impl Scene {
    fn new(keys: &str) -> Scene {
        let (shared, _ends) = Shared::new(1, "".into(), Snapshot::empty(), u64::MAX);
        let publisher = Arc::new(Publisher::new(Arc::clone(&shared)));
        let outliers = Outliers::new(&shared, &publisher);
        let mut scene = Scene { shared, outliers, generation: Generation::none() };
        scene.load(&[1, 2, 3], keys);
        scene
    }

    /// Puts a configuration in force; everybody in it is healthy.
    fn load(&mut self, backends: &[u16], keys: &str) {
        self.load_text(&text(backends, keys));
    }

    fn load_text(&mut self, text: &str) {
        let parsed = crate::config::parse(text, Path::new("test.toml"), &|_| None).unwrap();
        let context = Context {
            workers: 1,
            affinity_key: &Key::new(&[]),
            open_files: u64::MAX,
            uptime: Duration::ZERO,
            now: SystemTime::UNIX_EPOCH,
            read: &|path| std::fs::read(path),
        };
        let compiled = compile(&parsed.config, &self.generation, &context).unwrap();
        let number = self.generation.snapshot.generation + 1;
        let (generation, effects) = compiled.into_generation(number, |_| None);
        self.shared.snapshot.store(Arc::clone(&generation.snapshot));
        effects.versions.into_iter().for_each(|it| drop(it.put_in_force()));
        self.generation = generation;
        for backend in self.backends() {
            let _ = backend.health().on_probe(Duration::ZERO, Ok(()));
            backend.publish_health();
        }
        self.outliers.tick();
    }

    fn backends(&self) -> Vec<Arc<Backend>> {
        let split = self.generation.snapshot.pools["app"].state.split.load_full();
        let members = split.shares.iter().flat_map(|share| &share.version.members);
        members.map(|member| Arc::clone(&member.backend)).collect()
    }

    fn conditions(&self) -> Vec<Condition> {
        self.backends().iter().map(|backend| backend.condition()).collect()
    }

    /// So many attempts on one of them end like this; alarms are judged at once.
    fn attempts(&mut self, backend: usize, count: usize, outcome: Outcome) {
        let backend = Arc::clone(&self.backends()[backend]);
        for _ in 0..count {
            if let Some(alarm) = backend.note_end(WorkerId::new(0), outcome, None) {
                self.outliers.heed(&backend, alarm);
            }
        }
    }

    fn watched(&self) -> Vec<bool> {
        let sets = self.outliers.sets.values();
        sets.flat_map(|set| set.watched.iter().map(|watched| watched.seen.is_some())).collect()
    }
}

const WELL: Outcome = Outcome::Success { body: true };
const ERROR: Outcome = Outcome::ServerError { body: true };

#[test]
fn nothing_is_kept_of_backends_without_traffic() {
    let mut scene = Scene::new("");
    scene.outliers.tick();
    assert_eq!(scene.watched(), [false, false, false]);
}

#[test]
fn a_version_that_leaves_the_configuration_is_forgotten() {
    let mut scene = Scene::new("");
    let text = |versions: &str| {
        text(&[1], "").replace("backends = [\"127.0.0.1:1\"]", "active = \"a\"") + versions
    };
    let version = |name: &str| {
        format!("[pools.app.versions.{name}]\nbackends = [\"127.0.0.1:{}\"]\n", name.len())
    };
    scene.load_text(&text(&(version("a") + &version("bb"))));
    assert_eq!(scene.outliers.sets.len(), 2, "and no more of the pool without versions");
    scene.load_text(&text(&(version("a") + &version("ccc"))));
    let known = scene.outliers.sets.keys().map(|(_, version)| version.to_string());
    let mut known: Vec<String> = known.collect();
    known.sort();
    assert_eq!(known, ["a", "ccc"]);
}

#[test]
fn who_fails_alone_is_ejected_at_the_tick() {
    let mut scene = Scene::new("");
    (0..2).for_each(|backend| scene.attempts(backend, 100, WELL));
    scene.attempts(2, 100, ERROR);
    scene.outliers.tick();
    let healthy = Condition::Healthy;
    assert_eq!(scene.conditions(), [healthy, healthy, Condition::Ejected]);
    let latest = scene.backends()[2].history.latest().unwrap();
    assert_eq!(latest.transition.reason.label(), "failure_rate");
}

#[test]
fn failures_in_a_row_need_no_tick() {
    let mut scene = Scene::new("");
    scene.attempts(0, 5, Outcome::Failure);
    assert_eq!(scene.conditions()[0], Condition::Ejected);
}

#[test]
fn one_failure_on_trial_is_told_as_that() {
    let mut scene = Scene::new("");
    let backend = Arc::clone(&scene.backends()[0]);
    backend.on_trial.store(true, Ordering::Relaxed);
    backend.yardstick.set_consecutive_failures(1);
    scene.attempts(0, 1, Outcome::Failure);
    assert_eq!(scene.conditions()[0], Condition::Ejected);
    let reason = backend.history.latest().unwrap().transition.reason;
    assert_eq!(reason.label(), "trial_failed");
    let words = "ejected for 10 s: on trial after an ejection, and a request failed";
    assert_eq!(reason.to_string(), words);
}

#[test]
fn whose_traffic_is_forgotten_is_as_one_that_had_none() {
    let mut scene = Scene::new("");
    let backend = Arc::clone(&scene.backends()[2]);
    (0..2).for_each(|backend| scene.attempts(backend, 100, WELL));
    scene.attempts(2, 100, ERROR);
    scene.outliers.tick();
    scene.outliers.tick();
    assert_eq!(backend.condition(), Condition::Ejected);
    let _ = backend.health().forget_ejections(Duration::ZERO);
    backend.publish_health();
    scene.outliers.tick();
    assert!(backend.on_trial.load(Ordering::Relaxed), "its time might be over");
    backend.forget_traffic.store(true, Ordering::Relaxed);
    scene.outliers.tick();
    assert!(!backend.on_trial.load(Ordering::Relaxed));
    // Nothing is left of it to add to.
    scene.attempts(2, 4, Outcome::Failure);
    scene.outliers.tick();
    assert_eq!(backend.condition(), Condition::Healthy);
}

#[test]
fn no_more_than_the_share_is_ejected_and_what_speaks_against_others_is_told() {
    let mut scene = Scene::new("max_ejected = \"40%\"");
    scene.attempts(0, 5, Outcome::Failure);
    scene.attempts(1, 5, Outcome::Failure);
    let healthy = Condition::Healthy;
    assert_eq!(scene.conditions(), [Condition::Ejected, healthy, healthy]);
    let findings = scene.backends()[1].findings.counts();
    assert_eq!(findings, [(("withheld", "consecutive_failures"), 1)]);
}

#[test]
fn what_spoke_against_one_is_told_no_more_once_it_is_ejected() {
    let mut scene = Scene::new("");
    let backend = Arc::clone(&scene.backends()[0]);
    let second = Duration::from_secs(1);
    backend.findings.record(second, "spared", "latency", "gets less of its share".to_owned());
    assert!(backend.findings.latest(second).is_some());
    scene.attempts(0, 5, Outcome::Failure);
    assert_eq!(backend.findings.latest(second), None);
    assert_eq!(backend.findings.counts(), [(("spared", "latency"), 1)]);
}

#[test]
fn where_all_fail_the_pool_says_so_once_until_it_is_over() {
    let mut scene = Scene::new("consecutive_failures = 0");
    let split = scene.generation.snapshot.pools["app"].state.split.load_full();
    let version = split.largest().unwrap();
    let told = |scene: &Scene| {
        let events = scene.shared.feed.latest(9);
        let words = events.iter().map(|event| event.what.words().into_owned());
        words.filter(|words| words.contains("pool app: ")).collect::<Vec<_>>()
    };
    (0..3).for_each(|backend| scene.attempts(backend, 20, ERROR));
    (0..2).for_each(|_| scene.outliers.tick());
    let words = "60 of the latest 60 requests failed on all backends alike, so none is ejected \
                 for it";
    assert_eq!(version.ailment.load().as_deref().map(|words| &**words), Some(words));
    assert_eq!(told(&scene).len(), 1, "{:?}", told(&scene));
    (0..3).for_each(|backend| scene.attempts(backend, 100, WELL));
    scene.outliers.tick();
    assert!(version.ailment.load().is_none());
    assert_eq!(told(&scene).len(), 2, "{:?}", told(&scene));
}

#[test]
fn a_reload_keeps_what_is_known_of_those_who_stay() {
    let mut scene = Scene::new("");
    (0..2).for_each(|backend| scene.attempts(backend, 100, WELL));
    scene.attempts(2, 15, ERROR);
    scene.outliers.tick();
    scene.load(&[1, 2, 3, 4], "");
    scene.attempts(2, 15, ERROR);
    scene.outliers.tick();
    assert_eq!(scene.conditions()[2], Condition::Ejected);
}

#[test]
fn workers_measure_by_what_is_configured_and_found() {
    let mut scene = Scene::new("consecutive_failures = 2\nstall = \"700ms\"");
    let backend = Arc::clone(&scene.backends()[0]);
    assert_eq!(backend.yardstick.patience(), Duration::from_millis(700));
    (0..2).for_each(|at| scene.attempts(at, 30, ERROR));
    scene.attempts(2, 30, WELL);
    scene.outliers.tick();
    assert!(!scene.backends()[2].yardstick.siblings_well.load(Ordering::Relaxed));
}

#[test]
fn switched_off_nothing_follows() {
    let mut scene = Scene::new("mode = \"off\"");
    (0..2).for_each(|backend| scene.attempts(backend, 100, WELL));
    scene.attempts(2, 100, Outcome::Failure);
    scene.outliers.tick();
    assert_eq!(scene.conditions(), [Condition::Healthy; 3]);
    assert!(scene.backends()[2].findings.counts().is_empty());
}
