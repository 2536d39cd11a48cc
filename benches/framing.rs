//! What the scanners of raw heads cost: for a browser's request, alone and with a chunked body, and
//! for a typical answer.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::framing::Limits;
use tidegate::proxy::framing::{Phase, Scanner};
use tidegate::upstream::framing::{Asked, Scanner as ResponseScanner};

const BROWSER: &[u8] = b"GET /assets/app-3f9c2a.js?v=17 HTTP/1.1\r\n\
Host: shop.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br\r\n\
Connection: keep-alive\r\n\
Referer: https://shop.example.com/\r\n\
Cookie: session=0123456789abcdef\r\n\r\n";

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const CHUNKED: &[u8] = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
10\r\n0123456789abcdef\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Content-Type: text/html; charset=utf-8\r\n\
Content-Length: 13\r\n\
Cache-Control: private, max-age=0\r\n\
Vary: Accept-Encoding\r\n\
ETag: W/\"a-1b2c3d4e5f\"\r\n\
Connection: keep-alive\r\n\r\nHello, world!";

fn feed(scanner: &mut Scanner, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (passed, part) = scanner.next(bytes);
        assert!(part.is_ok());
        bytes = &bytes[passed..];
    }
}

fn framing(c: &mut Criterion) {
    let limits = Limits { max_header_bytes: 32 * 1024, max_headers: 100 };
    let mut group = c.benchmark_group("framing");
    for (name, bytes) in [("small", SMALL), ("browser", BROWSER), ("chunked", CHUNKED)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut scanner = Scanner::new(limits);
        group.bench_function(name, |b| b.iter(|| feed(&mut scanner, black_box(bytes))));
        assert_eq!(scanner.phase(), Phase::Idle);
    }
    group.throughput(Throughput::Bytes(BROWSER.len() as u64));
    let mut scanner = Scanner::new(limits);
    let (one, two) = BROWSER.split_at(200);
    group.bench_function("browser_in_two_reads", |b| {
        b.iter(|| {
            feed(&mut scanner, black_box(one));
            feed(&mut scanner, black_box(two));
        });
    });
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    let mut scanner = ResponseScanner::new(limits);
    group.bench_function("answer", |b| {
        b.iter(|| {
            scanner.ask(Asked::Plain);
            let mut rest = black_box(ANSWER);
            while !rest.is_empty() {
                let (passed, part) = scanner.next(rest);
                assert!(part.is_ok());
                rest = &rest[passed..];
            }
        });
    });
    assert!(scanner.is_idle());
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
