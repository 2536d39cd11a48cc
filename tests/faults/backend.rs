//! A backend as a process of its own: this binary again, told by an environment variable. It can be
//! made sick through its standard input, in every way that the rows know.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{SockFilter, SockRef};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

/// Says that this process is to be a backend, which one, and on which port (0: any).
pub const VARIABLE: &str = "TIDEGATE_FAULTS_BACKEND";

/// Where health is asked for.
pub const HEALTH: &str = "/health";

/// The field that names the backend in each of its answers.
pub const NAME_FIELD: &str = "x-replica";

const BODY_BYTES: usize = 1024;

/// What a backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Whether its health page is fine, unless `answers` takes that along.
    pub healthy: bool,
    /// What becomes of requests.
    pub answers: Answers,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answers {
    /// 200 after so many milliseconds.
    After(u64),
    /// This status, for so many in a hundred.
    Status(u16, u8),
    /// Half of the body, then a reset.
    Half,
    /// A reset.
    Reset,
    /// Nothing, ever, whatever is asked.
    Never,
    /// Every packet that comes is dropped, as if the cable had been pulled.
    Deaf,
}

/// All is well.
pub const WELL: Behaviour = Behaviour { healthy: true, answers: Answers::After(0) };

/// What it is told, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Behave so from now on; answered by an empty line.
    Behave(Behaviour),
    /// Say how many requests of clients came.
    Count,
}

struct Backend {
    name: String,
    behaviour: RwLock<Behaviour>,
    requests: AtomicU64,
    /// Every socket that is open: what drops packets is a filter on each of them.
    sockets: Mutex<HashMap<u64, TcpStream>>,
    listener: TcpListener,
}

/// Is a backend until its standard input ends.
pub fn run(told: &str) -> io::Result<()> {
    let (name, port) = told.split_once(' ').unwrap_or((told, "0"));
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap_or(0)))?;
    println!("{}", listener.local_addr()?.port());
    let backend = Arc::new(Backend {
        name: name.to_owned(),
        behaviour: RwLock::new(WELL),
        requests: AtomicU64::new(0),
        sockets: Mutex::default(),
        listener,
    });
    let accepting = Arc::clone(&backend);
    thread::spawn(move || accepting.accept());
    for line in io::stdin().lines() {
        match serde_json::from_str(&line?)? {
            Order::Behave(behaviour) => {
                backend.behave(behaviour);
                println!();
            }
            Order::Count => println!("{}", backend.requests.load(Ordering::Relaxed)),
        }
    }
    Ok(())
}

impl Backend {
    fn behave(&self, behaviour: Behaviour) {
        let sockets = self.sockets.lock().unwrap();
        *self.behaviour.write().unwrap() = behaviour;
        let deaf = behaviour.answers == Answers::Deaf;
        filter(SockRef::from(&self.listener), deaf);
        sockets.values().for_each(|socket| filter(SockRef::from(socket), deaf));
    }

    fn now(&self) -> Behaviour {
        *self.behaviour.read().unwrap()
    }

    fn accept(self: &Arc<Self>) {
        for number in 0.. {
            let Ok((stream, _)) = self.listener.accept() else { continue };
            let _ = stream.set_nodelay(true);
            {
                let mut sockets = self.sockets.lock().unwrap();
                filter(SockRef::from(&stream), self.now().answers == Answers::Deaf);
                sockets.insert(number, stream.try_clone().unwrap());
            }
            let backend = Arc::clone(self);
            thread::spawn(move || {
                // An error ends the connection, as its end does.
                let _ = backend.serve(&stream);
                backend.sockets.lock().unwrap().remove(&number);
            });
        }
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            if let Some(key) = request.websocket_key {
                return self.echo(stream, &key);
            }
            if !self.answer(stream, &request.path)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the connection may serve another request.
    fn answer(&self, mut stream: &TcpStream, path: &str) -> io::Result<bool> {
        let behaviour = self.now();
        if behaviour.answers == Answers::Never {
            let _ = io::copy(&mut stream, &mut io::sink());
            return Ok(false);
        }
        if path == HEALTH {
            stream.write_all(&self.message(if behaviour.healthy { 200 } else { 500 }))?;
            return Ok(true);
        }
        // What is asked at other paths comes from the proxy itself.
        if path == "/" {
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
        let mut status = 200;
        match behaviour.answers {
            Answers::After(0) | Answers::Never | Answers::Deaf => {}
            Answers::After(millis) => {
                if !is_waited_for(stream, Duration::from_millis(millis))? {
                    return Ok(false);
                }
            }
            Answers::Status(failure, percent) if fastrand::u8(..100) < percent => status = failure,
            Answers::Status(..) => {}
            Answers::Half => {
                let whole = self.message(200);
                stream.write_all(&whole[..whole.len() - BODY_BYTES / 2])?;
                wait_until_arrived(stream)?;
                reset(stream);
                return Ok(false);
            }
            Answers::Reset => {
                reset(stream);
                return Ok(false);
            }
        }
        stream.write_all(&self.message(status))?;
        Ok(true)
    }

    fn message(&self, status: u16) -> Vec<u8> {
        let mut message = format!(
            "HTTP/1.1 {status} Told\r\nContent-Length: {BODY_BYTES}\r\n{NAME_FIELD}: {}\r\n\r\n",
            self.name
        )
        .into_bytes();
        message.resize(message.len() + BODY_BYTES, b'x');
        message
    }

    fn echo(&self, mut stream: &TcpStream, key: &str) -> io::Result<()> {
        let accept = derive_accept_key(key.as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{NAME_FIELD}: {}\r\n\r\n",
            self.name
        );
        stream.write_all(head.as_bytes())?;
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        loop {
            let message = socket.read().map_err(io::Error::other)?;
            if message.is_text() || message.is_binary() {
                socket.send(message).map_err(io::Error::other)?;
            }
        }
    }
}

struct Request {
    path: String,
    websocket_key: Option<String>,
}

impl Request {
    /// Reads a request and its body; `None` at the end of the connection.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut request = Request { path, websocket_key: None };
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "sec-websocket-key" => request.websocket_key = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        io::copy(&mut reader.take(length), &mut io::sink())?;
        Ok(Some(request))
    }
}

/// One instruction in the language of the Berkeley packet filter: return 0, so take nothing.
fn filter(socket: SockRef<'_>, deaf: bool) {
    const RETURN_CONSTANT: u16 = 0x06;
    if deaf {
        socket.attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)]).unwrap();
    } else {
        // There may be none.
        let _ = socket.detach_filter();
    }
}

/// Whether the proxy is still there when so much time has passed: it says nothing meanwhile, and what
/// can come is its end.
fn is_waited_for(stream: &TcpStream, time: Duration) -> io::Result<bool> {
    stream.set_read_timeout(Some(time))?;
    let heard = stream.peek(&mut [0]);
    stream.set_read_timeout(None)?;
    match heard {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until the other side's system has all that was written: a reset takes along what is on its way.
fn wait_until_arrived(stream: &TcpStream) -> io::Result<()> {
    let (from, to) = (stream.local_addr()?.port(), stream.peer_addr()?.port());
    // Both ends as the system's table of connections has them, and behind them the state and what
    // waits to be sent.
    let ends = format!(" 0100007F:{from:04X} 0100007F:{to:04X} ");
    loop {
        let table = fs::read_to_string("/proc/net/tcp")?;
        let rest = table.split_once(&ends).map(|(_, rest)| rest);
        match rest.and_then(|rest| rest.split([' ', ':']).nth(1)) {
            Some("00000000") | None => return Ok(()),
            Some(_) => thread::yield_now(),
        }
    }
}

/// What follows is a close with a reset.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
