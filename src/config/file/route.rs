//! `[[routes]]`.

use crate::config::addresses;
use crate::config::model::{Fallback, Redirect, Route, RouteAction, Scheme, StaticResponse};
use crate::config::reader::Section;
use crate::config::source::Located;
use crate::config::values::{self, choice, duration_or_none, size_or_none, text, whole};

pub(super) fn route(s: &mut Section) -> Route {
    let name = s.located("name", text);
    if let Some(name) = &name
        && let Err(problem) = values::name(name)
    {
        s.error_at("name", problem.message, problem.help);
    }
    let hosts = s.filled_list("hosts", "leave it out to match any host", addresses::host_pattern);
    let listeners = s.filled_list("listeners", "leave it out to stand on all listeners", text);
    let path = s.located("path", addresses::route_path);
    let (timeout, max_body) = (s.get("timeout", duration_or_none), s.get("max_body", size_or_none));
    Route {
        name: name.map(|name| name.value),
        hosts: hosts.unwrap_or_default(),
        path: path.unwrap_or_else(|| Located::unwritten("/".to_owned())),
        listeners: listeners.unwrap_or_default(),
        action: action(s),
        fallback: s.optional_table("fallback", fallback).flatten(),
        timeout: timeout.flatten(),
        max_body: max_body.flatten(),
        place: Located { value: (), span: s.span() },
    }
}

fn action(s: &mut Section) -> RouteAction {
    let pool = s.located("pool", text);
    let redirect = s.optional_table("redirect", redirect);
    match (s.has("pool"), s.has("redirect")) {
        (true, true) => s.error_at(
            "redirect",
            "a route leads to a `pool` or is a `redirect`, not both",
            "make two routes of it".to_owned(),
        ),
        (false, false) => {
            s.error("this route leads nowhere", "give it a `pool` or a `redirect`".to_owned())
        }
        (false, true) => {
            s.forbid(&["timeout", "max_body", "fallback"], "has no meaning on a redirect");
        }
        (true, false) => {}
    }
    match redirect {
        Some(redirect) => RouteAction::Redirect(redirect),
        None => RouteAction::Pool(pool.unwrap_or_default()),
    }
}

fn redirect(s: &mut Section) -> Redirect {
    let redirect = Redirect {
        scheme: s.get("scheme", choice::<Scheme>),
        host: s.get("host", addresses::host),
        port: s.get("port", whole(1..=65_535)),
        path: s.get("path", addresses::route_path),
        status: s.get_or("status", Redirect::default().status, whole(301..=308)),
    };
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        let help = "use 301, 302, 303, 307 or 308".to_owned();
        s.error_at("status", format!("{} is no redirect", redirect.status), help);
    }
    if s.is_written() && !["scheme", "host", "port", "path"].iter().any(|key| s.has(key)) {
        s.error(
            "this redirect leads to where the request already is",
            "change at least one of `scheme`, `host`, `port` and `path`".to_owned(),
        );
    }
    redirect
}

fn fallback(s: &mut Section) -> Option<Fallback> {
    let pool = s.located("pool", text);
    let file = s.path("file");
    let status = s.get("status", whole(200..=599));
    let content_type = s.get("content_type", addresses::content_type);
    match (s.has("pool"), s.has("file")) {
        (true, true) => s.error_at(
            "file",
            "a fallback is a `pool` or a `file`, not both",
            "choose one of them".to_owned(),
        ),
        (false, false) => {
            s.error("this fallback has no answer", "give it a `pool` or a `file`".to_owned());
        }
        (true, false) => {
            s.forbid(&["status", "content_type"], "is what the pool answers, not yours to set");
        }
        (false, true) => {}
    }
    let response = |file| StaticResponse {
        file,
        status: status.unwrap_or(503),
        content_type: content_type.unwrap_or_else(|| "text/html; charset=utf-8".to_owned()),
    };
    pool.map(Fallback::Pool).or_else(|| Some(Fallback::File(response(file?))))
}
