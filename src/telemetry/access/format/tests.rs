use std::time::UNIX_EPOCH;

use super::*;

fn entry<'a>() -> Entry<'a> {
    Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_709_251_198_123),
        client: Some(IpAddr::from([192, 0, 2, 7])),
        method: "GET",
        target: "/a?b=c",
        http_version: Version::HTTP_2,
        host: "app.example.com",
        status: 200,
        bytes_sent: 1_234,
        bytes_received: 0,
        duration: Duration::from_micros(1_050_007),
        head: Some(Duration::from_micros(900)),
        queued: Duration::ZERO,
        request_id: "01",
        referer: None,
        user_agent: Some(b"curl/8.5.0"),
        listener: "https",
        route: "app",
        pool: "app",
        fallback_of: "",
        version: "",
        backend: "127.0.0.1:3001",
        attempts: 1,
        retry_reasons: "",
        reason: "",
        tls: Some("TLSv1.3"),
    }
}

fn line(format: Format, entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    write(format, entry, &mut out);
    String::from_utf8(out).unwrap()
}

/// The line as a JSON reader sees it.
fn object(entry: &Entry<'_>) -> serde_json::Value {
    serde_json::from_str(&line(Format::Json, entry)).unwrap()
}

#[test]
fn a_json_line_says_all_there_is_to_say() {
    assert_eq!(
        line(Format::Json, &entry()),
        "{\"time\":\"2024-02-29T23:59:58.123Z\",\"client\":\"192.0.2.7\",\"method\":\"GET\",\
         \"target\":\"/a?b=c\",\"protocol\":\"HTTP/2.0\",\"host\":\"app.example.com\",\
         \"status\":200,\"bytes_sent\":1234,\"bytes_received\":0,\
         \"duration_seconds\":1.050007,\"head_seconds\":0.000900,\"request_id\":\"01\",\
         \"user_agent\":\"curl/8.5.0\",\"tls\":\"TLSv1.3\",\"listener\":\"https\",\
         \"route\":\"app\",\"pool\":\"app\",\"backend\":\"127.0.0.1:3001\",\"attempts\":1}\n"
    );
}

#[test]
fn what_happened_on_the_way_is_said() {
    let entry = Entry {
        queued: Duration::from_millis(1_850),
        fallback_of: "shop",
        reason: "backend_stalled",
        ..entry()
    };
    let object = object(&entry);
    assert_eq!(object["queue_seconds"], 1.85);
    assert_eq!(object["fallback_of"], "shop");
    assert_eq!(object["timeout"], "body_idle_timeout");
}

#[test]
fn a_combined_line_is_what_nginx_writes() {
    assert_eq!(
        line(Format::Combined, &entry()),
        "192.0.2.7 - - [29/Feb/2024:23:59:58 +0000] \"GET /a?b=c HTTP/2.0\" 200 1234 \"-\" \
         \"curl/8.5.0\"\n"
    );
}

#[test]
fn a_request_that_did_not_parse_has_a_line_too() {
    let unparsed = Entry {
        client: None,
        method: "",
        target: "",
        status: 400,
        bytes_sent: 0,
        user_agent: None,
        ..entry()
    };
    assert_eq!(
        line(Format::Combined, &unparsed),
        "- - - [29/Feb/2024:23:59:58 +0000] \"-\" 400 0 \"-\" \"-\"\n"
    );
}

#[test]
fn json_gives_back_whatever_text_a_client_chose() {
    let hostile = "\"}\n{\"status\":200,\\ \u{0}\u{1b}[2J\u{7f}\u{9b}31m é \u{1f600}";
    let entry = Entry { target: hostile, ..entry() };
    assert_eq!(object(&entry)["target"], hostile);
}

#[test]
fn json_lines_hold_no_control_characters() {
    let every: Vec<u8> = (0..=255).collect();
    let text: String = (0..=0x2ff).filter_map(char::from_u32).collect();
    let entry = Entry {
        target: &text,
        host: &text,
        referer: Some(&every),
        user_agent: Some(&every),
        ..entry()
    };
    let line = line(Format::Json, &entry);
    assert_eq!(line.trim_end_matches('\n').find(char::is_control), None);
}

#[test]
fn bytes_that_are_no_utf8_are_replaced_in_json() {
    let entry = Entry { user_agent: Some(b"a\xff\xfeb\xc3"), ..entry() };
    assert_eq!(object(&entry)["user_agent"], "a\u{fffd}\u{fffd}b\u{fffd}");
}

#[test]
fn combined_fields_cannot_leave_their_quotes() {
    let hostile = Entry {
        target: "/\" 200 0\n1.2.3.4",
        referer: Some(b"\\\"\r\n\x00\x7f"),
        user_agent: Some("é".as_bytes()),
        ..entry()
    };
    assert_eq!(
        line(Format::Combined, &hostile),
        "192.0.2.7 - - [29/Feb/2024:23:59:58 +0000] \
         \"GET /\\x22 200 0\\x0A1.2.3.4 HTTP/2.0\" 200 1234 \
         \"\\x5C\\x22\\x0D\\x0A\\x00\\x7F\" \"\\xC3\\xA9\"\n"
    );
}
