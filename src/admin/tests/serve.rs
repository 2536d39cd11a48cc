//! Connections that do nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::house::{GOOD, House};

#[tokio::test]
async fn the_end_does_not_wait_for_idle_clients() {
    let mut house = House::new(GOOD).await;
    let mut idle = house.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // The answer shows that the connection is being served.
    assert_ne!(idle.read(&mut [0; 64]).await.unwrap(), 0);
    house.stop.take().unwrap().send(()).unwrap();
    house.serving.await.unwrap().unwrap();
    assert_ne!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_head_is_let_go() {
    let house = House::new(GOOD).await;
    let mut slow = house.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(60), slow.read_to_end(&mut answer)).await;
    end.expect("the connection ends before a minute is over").unwrap();
}
