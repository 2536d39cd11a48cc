//! Fields of a request, and its target among them.

use super::Answer::{Passed, Refused, Stream};
use super::{Case, PROTOCOL_ERROR, headers, run, with};
use crate::support::h2_wire::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Text, WHOLE, block, frame, get, request,
};

#[tokio::test]
async fn pseudo_header_fields() {
    let without = |name: &[u8]| {
        let fields: Vec<_> = get("/").into_iter().filter(|(field, _)| *field != name).collect();
        headers(WHOLE, &fields)
    };
    let replaced = |name: &'static [u8], value: &'static [u8]| {
        let fields: Vec<_> = get("/")
            .into_iter()
            .map(|(field, old)| (field, if field == name { value } else { old }))
            .collect();
        headers(WHOLE, &fields)
    };
    let mut late = get("/");
    late.insert(0, (b"x", b"y"));
    let cases = vec![
        ("one after a field", "8.3", headers(WHOLE, &late), Stream(PROTOCOL_ERROR)),
        ("no :method", "8.3.1", without(b":method"), Stream(PROTOCOL_ERROR)),
        ("no :scheme", "8.3.1", without(b":scheme"), Stream(PROTOCOL_ERROR)),
        ("no :path", "8.3.1", without(b":path"), Stream(PROTOCOL_ERROR)),
        ("neither :authority nor Host", "8.3.1", without(b":authority"), Refused(400)),
        ("two :method", "8.3", with(&[(b":method", b"GET")]), Stream(PROTOCOL_ERROR)),
        ("two :path", "8.3", with(&[(b":path", b"/")]), Stream(PROTOCOL_ERROR)),
        ("two :authority", "8.3", with(&[(b":authority", b"a")]), Stream(PROTOCOL_ERROR)),
        ("two :scheme", "8.3", with(&[(b":scheme", b"https")]), Stream(PROTOCOL_ERROR)),
        ("an unknown one", "8.3", with(&[(b":x", b"y")]), Stream(PROTOCOL_ERROR)),
        ("one of responses", "8.3", with(&[(b":status", b"200")]), Stream(PROTOCOL_ERROR)),
        ("an upper-case one", "8.3", with(&[(b":Path", b"/")]), Stream(PROTOCOL_ERROR)),
        ("an empty :path", "8.3.1", replaced(b":path", b""), Stream(PROTOCOL_ERROR)),
        ("an empty :method", "8.3.1", replaced(b":method", b""), Stream(PROTOCOL_ERROR)),
        ("an empty :scheme", "8.3.1", replaced(b":scheme", b""), Refused(400)),
        ("an empty :authority", "8.3.1", replaced(b":authority", b""), Stream(PROTOCOL_ERROR)),
        ("a :path without a slash", "8.3.1", replaced(b":path", b"a"), Stream(PROTOCOL_ERROR)),
        ("an asterisk for a GET", "8.3.1", replaced(b":path", b"*"), Refused(400)),
        ("an asterisk for OPTIONS", "8.3.1", headers(WHOLE, &request(b"OPTIONS", b"*")), Passed),
        ("an absolute :path", "8.3.1", replaced(b":path", b"http://b/"), Stream(PROTOCOL_ERROR)),
        ("a :scheme that is not ours", "8.3.1", replaced(b":scheme", b"ftp"), Refused(400)),
        ("the scheme of plain text", "8.3.1", replaced(b":scheme", b"http"), Passed),
        (":protocol without CONNECT", "4 of RFC 8441", with(&[(b":protocol", b"websocket")]), {
            Stream(PROTOCOL_ERROR)
        }),
        (
            "CONNECT with :path",
            "8.5",
            headers(WHOLE, &request(b"CONNECT", b"/")),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "CONNECT",
            "8.5",
            headers(WHOLE, &[(b":method", b"CONNECT"), (b":authority", b"localhost:80")]),
            Refused(405),
        ),
    ];
    run(cases).await;
}

#[tokio::test]
async fn the_host() {
    let host = |authority: Option<&'static [u8]>, hosts: &[&'static [u8]]| {
        let mut fields: Vec<(Text<'_>, Text<'_>)> =
            vec![(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")];
        fields.extend(authority.map(|authority| (&b":authority"[..], authority)));
        fields.extend(hosts.iter().map(|host| (&b"host"[..], *host)));
        headers(WHOLE, &fields)
    };
    let local = Some(&b"localhost"[..]);
    let passed = run(vec![
        ("Host alone", "8.3.1", host(None, &[b"localhost"]), Passed),
        ("the same in both", "8.3.1", host(local, &[b"localhost"]), Passed),
        ("the same but for the port", "8.3.1", host(local, &[b"LOCALHOST:443"]), Passed),
        ("another in Host", "8.3.1", host(local, &[b"other"]), Refused(400)),
        ("another port in Host", "8.3.1", host(local, &[b"localhost:80"]), Refused(400)),
        ("two Hosts", "8.3.1", host(None, &[b"localhost", b"localhost"]), Refused(400)),
        ("an empty Host", "8.3.1", host(None, &[b""]), Refused(400)),
        ("user info", "8.3.1", host(Some(b"a@localhost"), &[]), Refused(400)),
        ("user info and password", "8.3.1", host(Some(b"a:b@localhost"), &[]), Refused(400)),
        ("user info in Host", "8.3.1", host(None, &[b"a@localhost"]), Refused(400)),
        ("a path in Host", "8.3.1", host(None, &[b"localhost/a"]), Refused(400)),
        ("a space in Host", "8.3.1", host(None, &[b"local host"]), Refused(400)),
        ("high bytes in Host", "8.3.1", host(None, &[b"localhost\xff"]), Refused(400)),
        ("a bad port", "8.3.1", host(None, &[b"localhost:x"]), Refused(400)),
        ("a path in :authority", "8.3.1", host(Some(b"localhost/a"), &[]), Stream(PROTOCOL_ERROR)),
        ("a space in :authority", "8.3.1", host(Some(b"local host"), &[]), Stream(PROTOCOL_ERROR)),
        ("CRLF in :authority", "8.3.1", host(Some(b"localhost\r\nx: y"), &[]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("NUL in :authority", "8.3.1", host(Some(b"localhost\0"), &[]), Stream(PROTOCOL_ERROR)),
        ("a fragment in :authority", "8.3.1", host(Some(b"localhost#a"), &[]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("high bytes in :authority", "8.3.1", host(Some("h\u{f6}st".as_bytes()), &[]), {
            Stream(PROTOCOL_ERROR)
        }),
    ])
    .await;
    for (name, message) in passed {
        assert_eq!(message.all("host").len(), 1, "{name}");
    }
}

#[tokio::test]
async fn fields() {
    let malformed = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ];
    let mut cases: Vec<Case> = malformed
        .iter()
        .map(|(name, value)| {
            let bytes = with(&[(name.as_bytes(), value.as_bytes())]);
            (*name, "8.2.2", bytes, Stream(PROTOCOL_ERROR))
        })
        .collect();
    let long = [b'a'; 300];
    cases.extend([
        ("te: trailers", "8.2.2", with(&[(b"te", b"trailers")]), Passed),
        ("upper case", "8.2.1", with(&[(b"X-A", b"1")]), Stream(PROTOCOL_ERROR)),
        ("an empty name", "8.2.1", with(&[(b"", b"1")]), Stream(PROTOCOL_ERROR)),
        ("a space in a name", "8.2.1", with(&[(b"x a", b"1")]), Stream(PROTOCOL_ERROR)),
        ("a colon in a name", "8.2.1", with(&[(b"x:a", b"1")]), Stream(PROTOCOL_ERROR)),
        ("CRLF in a name", "8.2.1", with(&[(b"x\r\na", b"1")]), Stream(PROTOCOL_ERROR)),
        ("NUL in a name", "8.2.1", with(&[(b"x\0", b"1")]), Stream(PROTOCOL_ERROR)),
        ("high bytes in a name", "8.2.1", with(&[(b"x\xff", b"1")]), Stream(PROTOCOL_ERROR)),
        ("CR in a value", "8.2.1", with(&[(b"x", b"1\r2")]), Stream(PROTOCOL_ERROR)),
        ("LF in a value", "8.2.1", with(&[(b"x", b"1\n2")]), Stream(PROTOCOL_ERROR)),
        (
            "a request in a value",
            "8.2.1",
            with(&[(b"x", b"1\r\n\r\nGET /b HTTP/1.1\r\nhost: b\r\n\r\n")]),
            Stream(PROTOCOL_ERROR),
        ),
        ("NUL in a value", "8.2.1", with(&[(b"x", b"1\x002")]), Stream(PROTOCOL_ERROR)),
        ("space before a value", "8.2.1", with(&[(b"x", b" 1")]), Refused(400)),
        ("a tab behind a value", "8.2.1", with(&[(b"x", b"1\t")]), Refused(400)),
        ("a value of space", "8.2.1", with(&[(b"x", b" ")]), Refused(400)),
        ("an empty value", "8.2.1", with(&[(b"x", b"")]), Passed),
        ("high bytes in a value", "5.5 of RFC 9110", with(&[(b"x", b"\xe4\xff")]), Passed),
        ("a long value", "8.2.1", with(&[(b"x", &long)]), Passed),
        ("content_length", "5.1 of RFC 9110", with(&[(b"content_length", b"5")]), Refused(400)),
        (
            "transfer_encoding",
            "5.1 of RFC 9110",
            with(&[(b"transfer_encoding", b"chunked")]),
            Refused(400),
        ),
        ("an odd expectation", "10.1.1 of RFC 9110", with(&[(b"expect", b"magic")]), Refused(417)),
        ("an HTTP/2 upgrade", "3.2", with(&[(b"http2-settings", b"AAMAAABk")]), Passed),
    ]);
    for (name, message) in run(cases).await {
        for gone in ["te", "connection", "http2-settings", "transfer-encoding", "upgrade"] {
            assert_eq!(message.field(gone), None, "{name}");
        }
    }
}

#[tokio::test]
async fn more_fields_than_allowed() {
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<(Text<'_>, Text<'_>)> = names.iter().map(|n| (n.as_bytes(), &b"1"[..])).collect();
    let crumbs = [(&b"cookie"[..], &b"a=b"[..]); 150];
    let large = vec![b'a'; 12 * 1024];
    let large: Vec<(Text<'_>, Text<'_>)> =
        [&b"a"[..], b"b", b"c"].map(|name| (name, &large[..])).to_vec();
    let fields = block(&[&get("/")[..], &large].concat());
    let large = [
        frame(HEADERS, END_STREAM, 1, &fields[..16 * 1024]),
        frame(CONTINUATION, 0, 1, &fields[16 * 1024..32 * 1024]),
        frame(CONTINUATION, END_HEADERS, 1, &fields[32 * 1024..]),
    ]
    .concat();
    run(vec![
        ("100 fields", "10.5.1", with(&many[..100]), Passed),
        ("101 fields", "10.5.1", with(&many), Refused(431)),
        ("one cookie in many fields", "8.2.3", with(&crumbs), Passed),
        ("a head of 36 KiB", "10.5.1", large, Refused(431)),
    ])
    .await;
}

#[tokio::test]
async fn what_could_become_another_request() {
    let path = |path: &'static [u8]| headers(WHOLE, &request(b"GET", path));
    let method = |method: &'static [u8]| headers(WHOLE, &request(method, b"/"));
    let passed = run(vec![
        ("a space in :path", "8.3.1", path(b"/ HTTP/1.1"), Stream(PROTOCOL_ERROR)),
        (
            "a request in :path",
            "8.3.1",
            path(b"/ HTTP/1.1\r\nhost: a\r\n\r\nGET /b"),
            Stream(PROTOCOL_ERROR),
        ),
        ("CR in :path", "8.3.1", path(b"/\r"), Stream(PROTOCOL_ERROR)),
        ("LF in :path", "8.3.1", path(b"/\n"), Stream(PROTOCOL_ERROR)),
        ("LF in the query", "8.3.1", path(b"/?\n"), Stream(PROTOCOL_ERROR)),
        ("a tab in :path", "8.3.1", path(b"/\t"), Stream(PROTOCOL_ERROR)),
        ("NUL in :path", "8.3.1", path(b"/\0"), Stream(PROTOCOL_ERROR)),
        ("DEL in :path", "8.3.1", path(b"/\x7f"), Stream(PROTOCOL_ERROR)),
        ("UTF-8 in :path", "8.3.1", path("/\u{e4}".as_bytes()), Refused(400)),
        ("UTF-8 in the query", "8.3.1", path("/?\u{e4}".as_bytes()), Refused(400)),
        ("other high bytes in :path", "8.3.1", path(b"/\xff"), Stream(PROTOCOL_ERROR)),
        ("quotes in :path", "8.3.1", path(b"/\""), Refused(400)),
        ("a backslash in :path", "8.3.1", path(b"/a\\b"), Refused(400)),
        ("dot segments", "8.3.1", path(b"/a/../b"), Refused(400)),
        // It is for the client alone.
        ("a fragment in :path", "8.3.1", path(b"/a#b"), Refused(400)),
        ("a colon in :path", "8.3.1", path(b"/a:b"), Passed),
        ("user info in :path", "8.3.1", path(b"/a@b"), Passed),
        ("two slashes", "8.3.1", path(b"//a/b"), Passed),
        ("an unknown :method", "8.3.1", method(b"BREW"), Passed),
        ("a space in :method", "8.3.1", method(b"GET /b HTTP/1.1"), Stream(PROTOCOL_ERROR)),
        ("CRLF in :method", "8.3.1", method(b"GET\r\n"), Stream(PROTOCOL_ERROR)),
        ("NUL in :method", "8.3.1", method(b"GET\0"), Stream(PROTOCOL_ERROR)),
        ("a colon in :method", "8.3.1", method(b"GET:"), Stream(PROTOCOL_ERROR)),
        ("high bytes in :method", "8.3.1", method(b"GET\xff"), Stream(PROTOCOL_ERROR)),
        (
            "a request in :scheme",
            "8.3.1",
            headers(
                WHOLE,
                &[
                    (b":method", b"GET"),
                    (b":scheme", b"http://a/b HTTP/1.1\r\n\r\n"),
                    (b":authority", b"localhost"),
                    (b":path", b"/"),
                ],
            ),
            Stream(PROTOCOL_ERROR),
        ),
    ])
    .await;
    let targets: Vec<String> = passed.into_iter().map(|(_, message)| message.start).collect();
    assert_eq!(
        targets,
        ["GET /a:b HTTP/1.1", "GET /a@b HTTP/1.1", "GET //a/b HTTP/1.1", "BREW / HTTP/1.1",]
    );
}
