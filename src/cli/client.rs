//! A small HTTP client for the admin API: one request on one connection, over TCP or a Unix
//! socket.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::AdminOptions;
use super::endpoint::{Endpoint, EndpointError, Target};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Even a reload of ten thousand backends takes a fraction of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Why there is no answer that a command could use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// It is not known whom to ask.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody listens there.
    #[error(
        "cannot reach the admin API at {endpoint} ({source}): is tidegate running? Start it with \
         `tidegate run -c FILE`, or say where it listens with --admin URL, TIDEGATE_ADMIN or -c FILE"
    )]
    Unreachable {
        /// Whom we asked.
        endpoint: Endpoint,
        /// What the system says.
        source: io::Error,
    },
    /// No whole answer in time.
    #[error(
        "the admin API at {endpoint} did not answer within {} seconds; its log may tell why",
        ANSWER_TIMEOUT.as_secs()
    )]
    TimedOut {
        /// Whom we asked.
        endpoint: Endpoint,
    },
    /// Something else than a whole HTTP answer.
    #[error(
        "what listens at {endpoint} gave no usable HTTP answer ({reason}); is it tidegate's admin \
         address, and not that of another program or of a listener?"
    )]
    Unusable {
        /// Whom we asked.
        endpoint: Endpoint,
        /// What is wrong with it.
        reason: String,
    },
    /// The proxy says no.
    #[error("{message}{hint}", hint = hint(*status))]
    Refused {
        /// With this status.
        status: StatusCode,
        /// In these words.
        message: String,
    },
    /// No runtime could be set up for the request.
    #[error("cannot set up a connection: {0}")]
    Runtime(io::Error),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; give the admin token with --token-file FILE or in TIDEGATE_TOKEN"
        }
        StatusCode::MISDIRECTED_REQUEST => {
            "; use an address, or add the name that you used to `admin.hosts`"
        }
        _ => "",
    }
}

/// Asks the admin API that `options` lead to, and gives the body of a successful answer.
pub(super) fn get(options: &AdminOptions, path: &str) -> Result<String, ClientError> {
    ask(options, Method::GET, path, Bytes::new())
}

/// The same with a POST of this JSON.
pub(super) fn post(
    options: &AdminOptions,
    path: &str,
    body: &Value,
) -> Result<String, ClientError> {
    ask(options, Method::POST, path, body.to_string().into())
}

/// Makes any text a segment of a path (RFC 3986 section 3.3), or a value of a query.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn ask(
    options: &AdminOptions,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<String, ClientError> {
    let target = Target::find(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClientError::Runtime)?;
    runtime.block_on(async {
        match timeout(ANSWER_TIMEOUT, exchange(&target, (method, path, body))).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { endpoint: target.endpoint.clone() }),
        }
    })
}

/// Method, path and body of a request.
type Question<'a> = (Method, &'a str, Bytes);

async fn exchange(target: &Target, question: Question<'_>) -> Result<String, ClientError> {
    let unreachable =
        |source| ClientError::Unreachable { endpoint: target.endpoint.clone(), source };
    let late = || unreachable(io::Error::from(io::ErrorKind::TimedOut));
    let (status, body) = match &target.endpoint {
        Endpoint::Tcp(authority) => {
            let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(authority)).await;
            let stream = stream.map_err(|_| late())?.map_err(unreachable)?;
            send(stream, target, question).await
        }
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
            send(stream, target, question).await
        }
    }
    .map_err(|reason| ClientError::Unusable { endpoint: target.endpoint.clone(), reason })?;
    if status.is_success() {
        return Ok(body);
    }
    let endpoint = &target.endpoint;
    let message = own_words(&body).unwrap_or_else(|| {
        format!("what listens at {endpoint} answers {status}; is it tidegate's admin address?")
    });
    Err(ClientError::Refused { status, message })
}

/// What the admin API says about an error; nothing, if it is not the admin API.
fn own_words(body: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(body).ok()?;
    answer["error"].as_str().map(str::to_owned)
}

async fn send<S>(
    stream: S,
    target: &Target,
    (method, path, body): Question<'_>,
) -> Result<(StatusCode, String), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let host = match &target.endpoint {
        Endpoint::Tcp(authority) => authority,
        Endpoint::Unix(_) => "localhost",
    };
    let mut request = Request::builder().method(&method).uri(path).header(HOST, host);
    if let Some(token) = &target.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if method == Method::POST {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;

    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request with these bytes, and gives what the client sent.
    fn answer_once(answer: &'static str) -> (AdminOptions, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = Some(format!("http://{}", listener.local_addr().unwrap()));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (AdminOptions { admin, ..AdminOptions::default() }, server)
    }

    #[test]
    fn a_post_carries_what_the_admin_api_asks_for() {
        let (options, server) = answer_once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(post(&options, "/api/reload", &Value::Null).unwrap(), "ok");
        let request = server.join().unwrap();
        let host = options.admin.unwrap().replace("http://", "host: ");
        for wanted in ["POST /api/reload HTTP/1.1", &host, "content-type: application/json"] {
            assert!(request.contains(wanted), "{wanted} in {request}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_proxy() {
        let (options, _server) = answer_once(
            "HTTP/1.1 422 Unprocessable Content\r\ncontent-length: 20\r\n\r\n{\"error\":\"bad file\"}",
        );
        let error = post(&options, "/api/reload", &Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "bad file");
    }

    #[test]
    fn a_missing_token_is_told_with_the_way_to_give_it() {
        let (options, _server) =
            answer_once("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        let error = get(&options, "/api/status").unwrap_err().to_string();
        assert!(error.contains("--token-file"), "{error}");
    }

    #[test]
    fn another_program_is_not_taken_for_the_proxy() {
        let (options, _server) = answer_once("SSH-2.0-OpenSSH_9.2\r\n");
        let error = get(&options, "/api/status").unwrap_err();
        assert!(matches!(error, ClientError::Unusable { .. }), "{error}");
    }

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(escape("shop/a b\u{fc}?"), "shop%2Fa%20b%C3%BC%3F");
    }

    #[test]
    fn nobody_there_is_told_with_what_to_do() {
        let options = AdminOptions {
            admin: Some("unix:/nonexistent/admin.sock".to_owned()),
            ..AdminOptions::default()
        };
        let error = get(&options, "/api/status").unwrap_err().to_string();
        assert!(error.contains("is tidegate running?"), "{error}");
    }
}
