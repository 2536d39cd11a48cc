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

#[test]
fn lines_of_several_threads_arrive_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log = AccessLog::open(Format::Json, Some(&path)).unwrap();
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
    let log = AccessLog::open(Format::Combined, Some(&path)).unwrap();
    log.log(&entry("/last"));
    drop(log);
    assert!(fs::read_to_string(&path).unwrap().contains("GET /last "));
}

#[test]
fn rotation_sends_later_lines_to_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) =
        (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let log = AccessLog::open(Format::Combined, Some(&path)).unwrap();
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
    let error = AccessLog::open(Format::Json, Some(&path)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
