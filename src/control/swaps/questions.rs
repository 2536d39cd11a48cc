//! What is asked of a new version at its gate beside its health check: smoke requests, the version
//! that it tells, and what warms it up.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use crate::control::probe::{Check, Fetched, fetch, probe};
use crate::deploy::Checked;
use crate::state::Backend;

/// The questions of one pool, ready to be asked.
#[derive(Debug, Default)]
pub struct Questions {
    /// Smoke requests, in their order.
    pub smoke: Vec<Check>,
    /// What it must tell of its version.
    pub version: Option<VersionQuestion>,
    /// Connections that every worker is to have to every backend, all workers together.
    pub connections: usize,
    /// Requests that warm it up: how many of which.
    pub requests: (usize, Option<Check>),
}

/// What a backend must tell of its version.
#[derive(Debug)]
pub struct VersionQuestion {
    /// What is asked.
    pub check: Check,
    /// Where the answer is.
    pub told_by: ToldBy,
    /// What it must be.
    pub must: Must,
}

/// Where an answer tells the version.
#[derive(Debug)]
pub enum ToldBy {
    /// In this header field.
    Header(HeaderName),
    /// In this field of a JSON body: the names on the way to it.
    Json(Vec<String>),
}

/// What the version must be.
#[derive(Debug)]
pub enum Must {
    /// This.
    Equal(String),
    /// Anything but this.
    DifferFrom(String),
    /// Anything but what the old version tells.
    DifferFromOld,
}

/// Asks a smoke request.
pub(super) async fn smoke(check: &Check, backend: &Backend) -> Checked {
    match probe(check, backend).await {
        Ok(_) => Checked::Passed,
        Err(failure) => Checked::Failed(failure.to_string()),
    }
}

/// Sends the requests that warm a backend up. What they answer is of no interest, but that they do.
pub(super) async fn warm(questions: &Questions, backend: &Backend) -> Result<(), String> {
    let (requests, Some(check)) = &questions.requests else { return Ok(()) };
    for number in 1..=*requests {
        let answer = fetch(check, backend).await;
        answer.map_err(|error| format!("warm-up request {number} of {requests}: {error}"))?;
    }
    Ok(())
}

impl VersionQuestion {
    /// Asks a backend of the new version, and one of the old if that is what it is compared with.
    pub(super) async fn ask(&self, backend: &Backend, old: &[Arc<Backend>]) -> Checked {
        let told = match self.told(backend).await {
            Ok(told) => told,
            Err(error) => return Checked::Failed(error),
        };
        match &self.must {
            Must::Equal(expected) if told == *expected => Checked::Passed,
            Must::Equal(expected) => {
                Checked::Refused(format!("it tells version \"{told}\", \"{expected}\" is expected"))
            }
            Must::DifferFrom(other) if told != *other => Checked::Passed,
            Must::DifferFrom(_) => {
                Checked::Refused(format!("it tells version \"{told}\", which it must not be"))
            }
            Must::DifferFromOld => match self.old(old).await {
                Some(before) if before == told => Checked::Refused(format!(
                    "it tells version \"{told}\", and so does the old one: nothing new is there"
                )),
                // An old version that does not tell is none that this could be the same as.
                _ => Checked::Passed,
            },
        }
    }

    /// What the first backend of the old version tells that tells anything.
    async fn old(&self, old: &[Arc<Backend>]) -> Option<String> {
        for backend in old {
            if let Ok(told) = self.told(backend).await {
                return Some(told);
            }
        }
        None
    }

    async fn told(&self, backend: &Backend) -> Result<String, String> {
        let answer = fetch(&self.check, backend).await.map_err(|failure| failure.to_string())?;
        self.told_by.read(&answer)
    }
}

impl ToldBy {
    fn read(&self, answer: &Fetched) -> Result<String, String> {
        match self {
            ToldBy::Header(name) => {
                let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
                value.map(str::to_owned).ok_or_else(|| format!("its answer has no field `{name}`"))
            }
            ToldBy::Json(path) => {
                let shown = || path.join(".");
                let body: Value = serde_json::from_slice(&answer.body)
                    .map_err(|error| format!("its answer is no JSON: {error}"))?;
                let found = path.iter().try_fold(&body, |value, name| value.get(name));
                match found {
                    // It is told to people, in reports and on terminals.
                    Some(Value::String(text)) if is_word(text) => Ok(text.clone()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
                    Some(_) => Err(format!("`{}` in its answer is no plain value", shown())),
                    None => Err(format!("its answer has no `{}`", shown())),
                }
            }
        }
    }
}

/// Whether it can be shown on a line.
fn is_word(text: &str) -> bool {
    text.len() <= LONGEST_VERSION && !text.contains(char::is_control)
}

/// In bytes.
const LONGEST_VERSION: usize = 256;

/// For the requests that ask for a version, and those that warm up.
pub const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn answer(body: &str) -> Fetched {
        let name = HeaderName::from_static("x-version");
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("7"))]);
        Fetched { headers, body: body.as_bytes().to_vec().into() }
    }

    #[test]
    fn a_header_tells() {
        let header = |name| ToldBy::Header(HeaderName::from_static(name)).read(&answer(""));
        assert_eq!(header("x-version"), Ok("7".to_owned()));
        assert_eq!(header("x-other"), Err("its answer has no field `x-other`".to_owned()));
    }

    #[test]
    fn a_field_of_a_json_body_tells() {
        let body = r#"{"build": {"version": "1.2", "number": 7, "of": {}}}"#;
        let json = |path: &str, body| {
            ToldBy::Json(path.split('.').map(str::to_owned).collect()).read(&answer(body))
        };
        assert_eq!(json("build.version", body), Ok("1.2".to_owned()));
        assert_eq!(json("build.number", body), Ok("7".to_owned()));
        assert!(json("build.of", body).unwrap_err().contains("no plain value"));
        let escape = "{\"a\": \"\\u001b[2J\"}";
        assert!(json("a", escape).unwrap_err().contains("no plain value"), "for a terminal");
        assert!(json("build.none", body).unwrap_err().contains("has no `build.none`"));
        assert!(json("a", "<html>").unwrap_err().contains("no JSON"));
    }
}
