//! `[notify]`.

use http::Uri;

use super::pool::secret;
use crate::config::model::Notify;
use crate::config::reader::Section;
use crate::config::source::Located;
use crate::config::values::{Problem, Scalar, positive, positive_duration, text};

pub(super) fn notify(s: &mut Section) -> Notify {
    let default = Notify::default();
    s.require("url", "say whom to tell: url = \"https://hooks.example.com/deploys\"".to_owned());
    let notify = Notify {
        url: s.located("url", url).unwrap_or(Located::unwritten(String::new())),
        secret: s.get("secret", secret),
        secret_file: s.path("secret_file"),
        ca: s.path("ca"),
        timeout: s.get_or("timeout", default.timeout, positive_duration),
        attempts: s.get_or("attempts", default.attempts, positive),
    };
    if s.has("secret") && s.has("secret_file") {
        let help = "leave one of them out".to_owned();
        s.error_at("secret_file", "the secret is given twice: here and in `secret`", help);
    }
    if notify.ca.is_some() && notify.url.value.starts_with("http://") {
        s.warn_at("ca", "nobody is verified with it: `url` has no TLS", "use an https:// address");
    }
    notify
}

fn url(scalar: &Scalar) -> Result<String, Problem> {
    let url = text(scalar)?;
    let help = "write it like \"https://hooks.example.com/deploys\"";
    let uri: Uri =
        url.parse().map_err(|_| Problem::new(format!("`{url}` is no address")).help(help))?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().unwrap_or_default();
    // A name and a password in it would end up in logs.
    let bare = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if known && bare && !host.is_empty() {
        Ok(url)
    } else {
        Err(Problem::new(format!("`{url}` is no http:// or https:// address of a host")).help(help))
    }
}
