//! The stream of events.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::house::{GOOD, House};

#[tokio::test]
async fn events_are_told_as_they_happen_and_those_that_were_missed_first() {
    let house = House::new(GOOD).await;
    let mut stream = house.connect().await;
    let head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "configuration 1 is in force").await;
    assert!(told.to_lowercase().contains("content-type: text/event-stream"), "{told}");
    assert_eq!(house.reload().await.status, 200);
    let told = read_until(&mut stream, "configuration 2 is in force").await;
    assert!(told.contains("event: reload\n") && told.contains("id: "), "{told}");
}

#[tokio::test]
async fn a_reader_that_was_told_before_is_told_what_followed() {
    let house = House::new(GOOD).await;
    assert_eq!(house.reload().await.status, 200);
    let mut stream = house.connect().await;
    let head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "configuration 2 is in force").await;
    assert!(!told.contains("configuration 1 is in force"), "{told}");
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut told = String::new();
    let mut bytes = [0; 4096];
    while !told.contains(wanted) {
        let length = stream.read(&mut bytes).await.unwrap();
        assert_ne!(length, 0, "the stream ended: {told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    told
}
