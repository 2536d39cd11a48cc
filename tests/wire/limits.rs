//! What is longer than it may be: targets, heads, fields, chunk extensions, trailers.

use crate::kit::{Case, cut, cut_with, refused, run};

const HEAD: &str = "HTTP/1.1\r\nHost: a\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn every_case() {
    let line = "x".repeat(9000);
    let many = "X: y\r\n".repeat(20);
    let extension = "e".repeat(300);
    let extensions = format!("1;{}\r\na\r\n", "e".repeat(200)).repeat(100);
    let cases: [Case; 10] = [
        refused("long target", "9110 15.5.15", bytes(format!("GET /{line} {HEAD}\r\n")), 414),
        refused("long query", "9110 15.5.15", bytes(format!("GET /?{line} {HEAD}\r\n")), 414),
        refused("long method", "9112 3", bytes(format!("{line} / {HEAD}\r\n")), 414),
        refused("long value", "6585 5", bytes(format!("GET / {HEAD}X: {line}\r\n\r\n")), 431),
        refused("long name", "6585 5", bytes(format!("GET / {HEAD}{line}: x\r\n\r\n")), 431),
        refused("many fields", "6585 5", bytes(format!("GET / {HEAD}{many}\r\n")), 431),
        cut("long extension", "9112 7.1.1", bytes(format!("{CHUNKED}1;{extension}\r\na\r\n"))),
        cut("many extensions", "9112 7.1.1", bytes(format!("{CHUNKED}{extensions}"))),
        cut_with("long trailer", "6585 5", bytes(format!("{CHUNKED}0\r\nX: {line}\r\n\r\n")), 431),
        cut_with(
            "many trailers",
            "6585 5",
            bytes(format!("{CHUNKED}0\r\n{many}X: y\r\n\r\n")),
            431,
        ),
    ];
    run(&cases).await;
}

/// Cases are constants elsewhere.
fn bytes(text: String) -> &'static [u8] {
    text.into_bytes().leak()
}
