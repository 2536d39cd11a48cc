use std::fs;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use http::Version;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn entry(target: &str) -> Entry<'_> {
    Entry {
        time: UNIX_EPOCH,
        client: Some(IpAddr::from([192, 0, 2, 7])),
        method: "GET",
        target,
        http_version: Version::HTTP_11,
        host: "",
        status: 200,
        bytes_sent: 0,
        bytes_received: 0,
        duration: Duration::ZERO,
        head: None,
        queued: Duration::ZERO,
        request_id: "",
        referer: None,
        user_agent: None,
        listener: "",
        route: "",
        pool: "",
        fallback_of: "",
        version: "",
        backend: "",
        attempts: 0,
        retry_reasons: "",
        reason: "",
        tls: None,
    }
}

fn open(format: Format, path: &Path) -> AccessLog {
    let log = AccessLog::new().unwrap();
    log.switch(Some((format, Output::open(Some(path.to_owned())).unwrap())));
    log
}

#[test]
fn lines_of_several_threads_arrive_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log = open(Format::Json, &path);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let log = log.clone();
            std::thread::spawn(move || (0..500).for_each(|_| log.log(&entry("/"))))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(log.flush(PATIENCE));
    let text = fs::read_to_string(&path).unwrap();
    let whole = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["status"] == 200);
    assert_eq!(whole.count() as u64 + log.dropped(), 2_000);
}

#[test]
fn what_was_logged_is_written_when_the_last_owner_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log = open(Format::Combined, &path);
    log.log(&entry("/last"));
    drop(log);
    assert!(fs::read_to_string(&path).unwrap().contains("GET /last "));
}

#[test]
fn rotation_sends_later_lines_to_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) =
        (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let log = open(Format::Combined, &path);
    log.log(&entry("/before"));
    assert!(log.flush(PATIENCE));
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    // Lines that share a page with the request to reopen still belong to the old file.
    while !path.exists() {
        std::thread::yield_now();
    }
    log.log(&entry("/after"));
    assert!(log.flush(PATIENCE));
    let lines = |path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&moved), lines(&path)), (1, 1));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("access.log");
    let error = Output::open(Some(path)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn it_is_switched_from_file_to_file_and_off() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    let log = AccessLog::new().unwrap();
    log.log(&entry("/nobody-listens"));
    log.switch(Some((Format::Combined, Output::open(Some(one.clone())).unwrap())));
    log.log(&entry("/first"));
    assert!(log.flush(PATIENCE));
    log.switch(Some((Format::Json, Output::open(Some(two.clone())).unwrap())));
    // Whatever shares a page with the switch still goes to the file before.
    while log.0.queue.is_about_to_switch() {
        std::thread::yield_now();
    }
    log.log(&entry("/second"));
    assert!(log.flush(PATIENCE));
    log.switch(None);
    log.log(&entry("/nobody-listens"));
    assert!(log.flush(PATIENCE) && !log.is_on());
    let text = |path| fs::read_to_string(path).unwrap();
    let (one, two) = (text(one), text(two));
    assert!(one.contains("GET /first ") && one.lines().count() == 1, "{one}");
    assert!(two.starts_with('{') && two.contains("/second") && two.lines().count() == 1, "{two}");
}
