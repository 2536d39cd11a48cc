//! What is answered to what.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::bind::Address;
use super::guard::{self, Guard};
use super::{AdminState, backends, events, explain, page, scrape, swaps};
use crate::control::plan::{Draft, ReloadPlan};
use crate::control::{Readiness, ReloadError, ReloadReport, Status};
use crate::telemetry::date;

/// Largest request body, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// Largest configuration that is sent to be checked, in bytes.
const MAX_DRAFT: usize = 16 * 1024 * 1024;
/// For a request body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The admin API on a socket at `address`.
pub(super) fn router(state: AdminState, address: Address) -> Router {
    let guard = Guard { state: state.clone(), address };
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape::scrape))
        .route("/", get(show_page))
        .route("/api/status", get(status))
        .route("/api/events", get(events::stream))
        .route("/api/reload", post(reload))
        .route("/api/check", post(check))
        .route("/api/explain", get(explain::explain))
        .route("/api/reports", get(swaps::reports))
        .route("/api/reports/{id}", get(swaps::report))
        .route("/api/pools/{pool}/swap", post(swaps::swap))
        .route("/api/pools/{pool}/rollback", post(swaps::rollback))
        .route("/api/pools/{pool}/backends/{backend}", get(backends::show))
        .route("/api/pools/{pool}/backends/{backend}/{action}", post(backends::decide))
        .fallback(async || error(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(from_fn_with_state(guard, guard::check))
        .layer(map_response(harden))
        .with_state(state)
}

/// An error as the admin API tells it.
pub(super) fn error(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({ "error": words }))).into_response()
}

/// What holds for every answer: it is true now only, and is what it says it is.
async fn harden(mut response: Response) -> Response {
    let fields: [(HeaderName, &'static str); 3] = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn readyz(State(state): State<AdminState>) -> Response {
    match state.control.readiness() {
        Readiness::Ready => "ok\n".into_response(),
        Readiness::NotReady(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
        }
    }
}

async fn status(State(state): State<AdminState>) -> Json<Status> {
    Json(state.control.status())
}

async fn show_page(State(state): State<AdminState>) -> Response {
    let reports = state.control.reports();
    let reports: Vec<Value> = reports.iter().take(10).map(|report| report.json(date)).collect();
    let events = state.shared.feed.latest(15);
    let (status, readiness) = (state.control.status(), state.control.readiness());
    let html = page::render(&status, &readiness, &reports, &events);
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, page::content_security_policy()),
    ];
    (fields, html).into_response()
}

async fn reload(
    State(state): State<AdminState>,
    request: Request,
) -> Result<Json<ReloadReport>, Response> {
    // Nothing in it matters yet; read, it leaves the connection fit for the next request.
    read_body(request, MAX_BODY).await?;
    state.control.reload().await.map(Json).map_err(|refusal| refused(&refusal))
}

fn refused(refusal: &ReloadError) -> Response {
    let status = match refusal {
        ReloadError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadError::Unreadable { .. } | ReloadError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ReloadError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(status, &refusal.to_string())
}

/// `POST /api/check {"text": "...", "path": "/etc/tidegate/new.toml"}`, or `{}` for the file that a
/// reload reads: what a reload would do.
async fn check(
    State(state): State<AdminState>,
    request: Request,
) -> Result<Json<ReloadPlan>, Response> {
    let body = read_json_within(request, MAX_DRAFT).await?;
    let draft = match (body["text"].as_str(), body["path"].as_str().map(PathBuf::from)) {
        (Some(text), Some(path)) if path.is_absolute() => {
            Some(Draft { text: text.to_owned(), path })
        }
        (None, None) => None,
        _ => {
            let words = "give the `text` of the file and its absolute `path`, or neither";
            return Err(error(StatusCode::BAD_REQUEST, words));
        }
    };
    state.control.plan(draft).await.map(Json).map_err(|refusal| refused(&refusal))
}

/// The body as JSON; `{}` if there is none.
pub(super) async fn read_json(request: Request) -> Result<Value, Response> {
    read_json_within(request, MAX_BODY).await
}

async fn read_json_within(request: Request, most: usize) -> Result<Value, Response> {
    let body = read_body(request, most).await?;
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&body)
        .map_err(|cause| error(StatusCode::BAD_REQUEST, &format!("the body is no JSON: {cause}")))
}

async fn read_body(request: Request, most: usize) -> Result<axum::body::Bytes, Response> {
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large"))
        }
        Ok(Err(_)) => Err(error(StatusCode::BAD_REQUEST, "the request body broke off")),
        Err(_) => Err(error(StatusCode::REQUEST_TIMEOUT, "the request body took too long")),
    }
}
