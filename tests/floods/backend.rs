//! A backend that nothing wears out: it answers at once, slowly, or with more than anybody takes.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::wire::read_message;

/// What `/slow` takes.
const SLOW: Duration = Duration::from_millis(500);
/// What `/large` answers with.
const LARGE_BYTES: usize = 256 * 1024 * 1024;
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// Starts one; it ends with the test.
pub async fn start() -> SocketAddr {
    // Thousands may connect at once, and those that find no room would try again in a second.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut read = Vec::new();
    while let Ok(request) = read_message(&mut stream, &mut read, true).await {
        let sent = match request.request_line().1 {
            "/large" => large(&mut stream).await,
            "/hang" => {
                // Until the proxy gives up.
                let _ = stream.read(&mut [0]).await;
                return;
            }
            target => {
                // Nothing comes before the answer but the end, where the proxy has given up.
                if target == "/slow" && timeout(SLOW, stream.read(&mut [0])).await.is_ok() {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn large(stream: &mut TcpStream) -> std::io::Result<()> {
    // The system has only so much memory for sockets, and it is the proxy's share that is tested.
    SockRef::from(&*stream).set_send_buffer_size(PIECE.len())?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for _ in 0..LARGE_BYTES / PIECE.len() {
        stream.write_all(&PIECE).await?;
    }
    Ok(())
}
