//! `GET /api/explain`: why a request goes where it goes, and why a backend is what it is.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::AdminState;
use super::routes::error;
use crate::control::explain::{Ask, AskError};

/// `?url=https://app.example.com/&header=Cookie: a=b&listener=https&client=192.0.2.1`, or
/// `?backend=10.0.0.1:80`
pub(super) async fn explain(
    State(state): State<AdminState>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Response> {
    let mut ask = Ask::default();
    for (key, value) in query {
        match key.as_str() {
            "backend" => {
                let told = state.control.explain_backend(&value).map_err(|why| refused(&why))?;
                let text: Vec<&str> = told.iter().map(|told| told.text.as_str()).collect();
                return Ok(Json(json!({ "backends": told, "text": text.join("\n") })));
            }
            "url" => ask.url = value,
            "listener" => ask.listener = Some(value),
            "client" => {
                let wrong = || bad(&format!("`{value}` is no address of a client"));
                ask.client = Some(value.parse().map_err(|_| wrong())?);
            }
            "header" => match value.split_once(':') {
                Some((name, value)) => {
                    ask.headers.push((name.trim().to_owned(), value.trim().to_owned()));
                }
                None => return Err(bad("a header is written as `Name: value`")),
            },
            other => return Err(bad(&format!("there is no `{other}` to be explained"))),
        }
    }
    if ask.url.is_empty() {
        return Err(bad(
            "say what to explain: ?url=https://app.example.com/, or ?backend=HOST:PORT",
        ));
    }
    match state.control.explain_request(&ask) {
        Ok(told) => Ok(Json(json!(told))),
        Err(why) => Err(refused(&why)),
    }
}

fn bad(words: &str) -> Response {
    error(StatusCode::BAD_REQUEST, words)
}

fn refused(why: &AskError) -> Response {
    let status = match why {
        AskError::Backend(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    error(status, &why.to_string())
}
