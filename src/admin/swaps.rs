//! Swaps, rollbacks and reports over the API.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::AdminState;
use super::routes::{error, read_json};
use crate::control::{SwapId, SwapOptions, SwapRefused};
use crate::telemetry::date;

/// The longest name of who asks that is taken down.
const MAX_ASKED_BY: usize = 200;

/// `POST /api/pools/{pool}/swap {"version": "green", "replace": false, "asked_by": "..."}`
pub(super) async fn swap(
    State(state): State<AdminState>,
    Path(pool): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let body = read_object(request, &["version", "replace", "asked_by"]).await?;
    let Some(version) = body.get("version").and_then(Value::as_str) else {
        let words = "say which version is to serve: {\"version\": \"green\"}";
        return Err(error(StatusCode::BAD_REQUEST, words));
    };
    let options = SwapOptions { replace: flag(&body, "replace")?, asked_by: asked_by(&body)? };
    match state.control.swap(&pool, version, options).await {
        Ok(id) => Ok(match state.control.report(id) {
            // To give up that swap was all that there was to do: who asked has what was asked for.
            Some(swap) if swap.order.to != version || swap.cut_short.is_some() => {
                let words =
                    format!("{version} serves pool `{pool}`; swap {id} was given up for that");
                Json(json!({ "id": null, "words": words })).into_response()
            }
            _ => begun(&state, id),
        }),
        Err(refusal) => refused(&state, &pool, &refusal),
    }
}

/// `POST /api/pools/{pool}/rollback {"force": false, "asked_by": "..."}`
pub(super) async fn rollback(
    State(state): State<AdminState>,
    Path(pool): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let body = read_object(request, &["force", "asked_by"]).await?;
    let (force, asked_by) = (flag(&body, "force")?, asked_by(&body)?);
    match state.control.rollback(&pool, force, &asked_by).await {
        Ok(id) => Ok(begun(&state, id)),
        Err(refusal) => refused(&state, &pool, &refusal),
    }
}

/// `GET /api/reports`
pub(super) async fn reports(State(state): State<AdminState>) -> Json<Value> {
    let reports = state.control.reports();
    Json(json!({ "reports": reports.iter().map(|report| report.json(date)).collect::<Value>() }))
}

/// `GET /api/reports/{id}`
pub(super) async fn report(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Response> {
    let report = id.parse().ok().and_then(|id| state.control.report(SwapId(id)));
    let report = report.ok_or_else(|| {
        let words =
            format!("there is no report {id}, or none any more; GET /api/reports lists them");
        error(StatusCode::NOT_FOUND, &words)
    })?;
    let mut json = report.json(date);
    json["unsaved"] = state.control.unsaved().into();
    Ok(Json(json))
}

fn begun(state: &AdminState, id: SwapId) -> Response {
    let unsaved = state.control.unsaved();
    let body = json!({ "id": id, "report": format!("/api/reports/{id}"), "unsaved": unsaved });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

fn refused(state: &AdminState, pool: &str, refusal: &SwapRefused) -> Result<Response, Response> {
    let words = refusal.to_string();
    let status = match refusal {
        // What was wanted is so already: no error to a script that is run twice.
        SwapRefused::Serves { .. }
        | SwapRefused::RolledBack { .. }
        | SwapRefused::CameToNothing { was_back: false, .. } => {
            return Ok(Json(json!({ "id": null, "words": words })).into_response());
        }
        SwapRefused::UnknownPool { .. } | SwapRefused::UnknownVersion { .. } => {
            StatusCode::NOT_FOUND
        }
        SwapRefused::Running { id, .. } => {
            let running = state.control.board().pool(pool).and_then(|swaps| swaps.running);
            let body = json!({ "error": words, "id": id, "running": running });
            return Err((StatusCode::CONFLICT, Json(body)).into_response());
        }
        SwapRefused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    };
    Err(error(status, &words))
}

/// A JSON object with no other than these keys; an empty body is one without any.
async fn read_object(request: Request, known: &[&str]) -> Result<Map<String, Value>, Response> {
    let Value::Object(object) = read_json(request).await? else {
        return Err(error(StatusCode::BAD_REQUEST, "the body is to be a JSON object"));
    };
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(other) => {
            let words = format!("there is no `{other}` here; known are {}", known.join(", "));
            Err(error(StatusCode::BAD_REQUEST, &words))
        }
        None => Ok(object),
    }
}

fn flag(body: &Map<String, Value>, key: &str) -> Result<bool, Response> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(error(StatusCode::BAD_REQUEST, &format!("`{key}` is to be true or false"))),
    }
}

/// Who asks, in one line.
fn asked_by(body: &Map<String, Value>) -> Result<String, Response> {
    match body.get("asked_by") {
        None | Some(Value::Null) => Ok("the admin API".to_owned()),
        Some(Value::String(who))
            if who.len() <= MAX_ASKED_BY && !who.contains(char::is_control) =>
        {
            Ok(who.clone())
        }
        Some(_) => {
            let words = format!("`asked_by` is to be a line of at most {MAX_ASKED_BY} bytes");
            Err(error(StatusCode::BAD_REQUEST, &words))
        }
    }
}
