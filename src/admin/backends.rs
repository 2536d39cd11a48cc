//! Single backends: how one is, and what is decided about it by hand. In a path, an address is encoded
//! as any other text is (`unix:%2Frun%2Fapp.sock`).

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::AdminState;
use super::routes::{error, read_json};
use crate::control::by_hand::{Action, HandError, HandReport};
use crate::control::status::BackendStatus;

pub(super) async fn show(
    State(state): State<AdminState>,
    Path((pool, backend)): Path<(String, String)>,
) -> Result<Json<BackendStatus>, Response> {
    let status = state.control.backend_status(&pool, &backend);
    status.map(Json).ok_or_else(|| {
        error(StatusCode::NOT_FOUND, &format!("there is no backend `{backend}` in a pool `{pool}`"))
    })
}

pub(super) async fn decide(
    State(state): State<AdminState>,
    Path((pool, backend, action)): Path<(String, String, String)>,
    request: Request,
) -> Result<Json<HandReport>, Response> {
    let options = read_json(request).await?;
    let action = match action.as_str() {
        "drain" => {
            let close_tunnels = options["close_tunnels"].as_bool().unwrap_or_default();
            Action::Drain { close_tunnels }
        }
        "undrain" => Action::Undrain,
        "disable" => Action::Disable,
        "enable" => Action::Enable,
        _ => {
            let words = format!("`{action}` is none of drain, undrain, disable and enable");
            return Err(error(StatusCode::NOT_FOUND, &words));
        }
    };
    state.control.by_hand(&pool, &backend, action).await.map(Json).map_err(|refusal| {
        let status = match refusal {
            HandError::NoPool(_) | HandError::NoBackend { .. } => StatusCode::NOT_FOUND,
            HandError::Disabled { .. } | HandError::Drained { .. } => StatusCode::CONFLICT,
        };
        error(status, &refusal.to_string())
    })
}
