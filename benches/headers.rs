//! What the header rules cost: the fields of a browser's request made ready for a backend, as
//! `proxy::prepare` does it, and those of a typical answer made ready for a client.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate::proxy::headers::forwarded::{Connection, ConnectionHeaders};
use tidegate::proxy::headers::hop::{Keep, strip_hop_by_hop};
use tidegate::proxy::headers::identity::{is_loop, take_request_id};
use tidegate::proxy::headers::survey::Survey;

const BROWSER: &[(&str, &str)] = &[
    ("host", "shop.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("connection", "keep-alive"),
    ("referer", "https://shop.example.com/"),
    ("cookie", "session=0123456789abcdef"),
];

/// What another proxy in front adds.
const BEHIND_A_PROXY: &[(&str, &str)] = &[
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.example.com"),
    ("x-request-id", "0123456789abcdef0123456789abcdef"),
];

const ANSWER: &[(&str, &str)] = &[
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "13"),
    ("cache-control", "private, max-age=0"),
    ("vary", "Accept-Encoding"),
    ("etag", "W/\"a-1b2c3d4e5f\""),
    ("connection", "keep-alive"),
];

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn connection(trusted: bool) -> ConnectionHeaders {
    let peer = Some([192, 0, 2, 1].into());
    let instance = HeaderValue::from_static("bench");
    ConnectionHeaders::new(Connection { peer, secure: true, port: 443, trusted }, &instance, false)
}

/// In the order of `proxy::prepare`.
fn to_backend(
    mut headers: HeaderMap,
    connection: &ConnectionHeaders,
    instance: &HeaderValue,
) -> HeaderMap {
    let survey = Survey::of(&headers);
    black_box(if survey.request_id { take_request_id(&mut headers) } else { None });
    assert!(!(survey.hops && is_loop(&headers, instance)));
    let host = headers.get(HOST).cloned();
    if survey.hop_by_hop {
        strip_hop_by_hop(&mut headers, Keep { te_trailers: true, upgrade: None });
    }
    let mut added = smallvec::SmallVec::new();
    connection.apply(&mut headers, survey.forwarding, host.as_ref(), &mut added);
    black_box(added);
    headers
}

fn headers(c: &mut Criterion) {
    let instance = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
    let mut group = c.benchmark_group("headers");
    let browser = map(BROWSER);
    let proxied = map(&[BROWSER, BEHIND_A_PROXY].concat());
    for (name, fields, trusted) in
        [("browser", &browser, false), ("behind a trusted proxy", &proxied, true)]
    {
        let connection = connection(trusted);
        group.bench_function(name, |b| {
            b.iter_batched(
                || fields.clone(),
                |fields| to_backend(fields, &connection, &instance),
                BatchSize::SmallInput,
            );
        });
    }
    let answer = map(ANSWER);
    group.bench_function("answer", |b| {
        b.iter_batched(
            || answer.clone(),
            |mut fields| {
                strip_hop_by_hop(&mut fields, Keep::default());
                fields
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
