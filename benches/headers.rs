//! What the header rules cost: the fields of a browser's request made ready for a backend, alone and
//! behind another proxy, and those of a typical answer made ready for a client.
//!
//! Under HTTP/2 all fields stand in a map, which is surveyed. Under HTTP/1.1 a sieve is shown each of
//! them as it came, and the rules get a map only of those that somebody looks at. To read fields into a
//! map, and to gather what stays as it came, is not measured.
#![allow(missing_docs)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use tidegate::proxy::headers::forwarded::{Connection, ConnectionHeaders};
use tidegate::proxy::headers::hop::{Keep, strip_from_answer, strip_hop_by_hop};
use tidegate::proxy::headers::identity::{is_loop, take_request_id};
use tidegate::proxy::headers::sieve::{RequestSieve, for_answer_to};
use tidegate::proxy::headers::survey::Survey;

type Field = (&'static str, &'static str);

const BROWSER: &[Field] = &[
    ("host", "shop.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("connection", "keep-alive"),
    ("referer", "https://shop.example.com/"),
    ("cookie", "session=0123456789abcdef"),
];

/// What another proxy in front adds. Somebody looks at all of these; of a browser's the sieve takes out
/// Host and Connection, and the others stay as they came.
const BEHIND_A_PROXY: &[Field] = &[
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.example.com"),
    ("x-request-id", "0123456789abcdef0123456789abcdef"),
];

const ANSWER: &[Field] = &[
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "13"),
    ("cache-control", "private, max-age=0"),
    ("vary", "Accept-Encoding"),
    ("etag", "W/\"a-1b2c3d4e5f\""),
    ("connection", "keep-alive"),
];

fn map(fields: &[Field]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn connection(trusted: bool) -> ConnectionHeaders {
    let peer = Some([192, 0, 2, 1].into());
    let instance = HeaderValue::from_static("bench");
    ConnectionHeaders::new(Connection { peer, secure: true, port: 443, trusted }, &instance, false)
}

/// As under HTTP/2.
fn surveyed(
    headers: HeaderMap,
    connection: &ConnectionHeaders,
    instance: &HeaderValue,
) -> HeaderMap {
    let survey = Survey::of(&headers);
    let host = headers.get(HOST).cloned();
    to_backend(headers, survey, host, connection, instance)
}

/// As under HTTP/1.1: `known` are those of the fields that somebody looks at.
fn sifted(
    fields: &[Field],
    known: HeaderMap,
    connection: &ConnectionHeaders,
    instance: &HeaderValue,
) -> HeaderMap {
    let mut sieve = RequestSieve::default();
    for (name, value) in black_box(fields) {
        black_box(sieve.fate(name.as_bytes(), value.as_bytes()));
    }
    let host = sieve.host.map(|host| HeaderValue::from_maybe_shared(Bytes::from_static(host)));
    let host = host.and_then(Result::ok);
    to_backend(known, sieve.found, host, connection, instance)
}

/// In the order of `proxy::prepare`.
fn to_backend(
    mut headers: HeaderMap,
    survey: Survey,
    host: Option<HeaderValue>,
    connection: &ConnectionHeaders,
    instance: &HeaderValue,
) -> HeaderMap {
    black_box(if survey.request_id { take_request_id(&mut headers) } else { None });
    assert!(!(survey.hops && is_loop(&headers, instance)));
    if survey.hop_by_hop {
        strip_hop_by_hop(&mut headers, Keep { te_trailers: true, upgrade: None });
    }
    let mut added = smallvec::SmallVec::new();
    connection.apply(&mut headers, survey.forwarding, host.as_ref(), &mut added);
    black_box(added);
    headers
}

/// As `proxy::forward` does it.
fn to_client(mut headers: HeaderMap) -> HeaderMap {
    if Survey::of(&headers).hop_by_hop {
        strip_from_answer(StatusCode::OK, &mut headers);
    }
    headers
}

fn requests(c: &mut Criterion) {
    let instance = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
    let mut group = c.benchmark_group("headers");
    let proxied = [BROWSER, BEHIND_A_PROXY].concat();
    for (name, fields, known, trusted) in [
        ("browser", BROWSER, &[][..], false),
        ("behind a trusted proxy", &proxied[..], BEHIND_A_PROXY, true),
    ] {
        let connection = connection(trusted);
        let all = map(fields);
        group.bench_function(name, |b| {
            b.iter_batched(
                || all.clone(),
                |all| surveyed(all, &connection, &instance),
                BatchSize::SmallInput,
            );
        });
        let known = map(known);
        group.bench_function(format!("{name}, HTTP/1.1"), |b| {
            b.iter_batched(
                || known.clone(),
                |known| sifted(fields, known, &connection, &instance),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("headers");
    let answer = map(ANSWER);
    group.bench_function("answer", |b| {
        b.iter_batched(|| answer.clone(), to_client, BatchSize::SmallInput);
    });
    // None of its fields has to stand in the map.
    let Some(sieve) = for_answer_to(Version::HTTP_11, false) else {
        panic!("an answer under HTTP/1.1 has a sieve");
    };
    group.bench_function("answer, HTTP/1.1", |b| {
        b.iter(|| {
            for (name, value) in black_box(ANSWER) {
                black_box(sieve(name.as_bytes(), value.as_bytes(), true));
            }
            to_client(HeaderMap::new())
        });
    });
    group.finish();
}

criterion_group!(benches, requests, answers);
criterion_main!(benches);
