//! `tidegate explain`: why a request goes where it goes, and why a backend is what it is.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::{AdminOptions, client, fail, print};

/// What can be explained.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// The live way of a request: route, pool, version, candidates, and who is passed over and why
    Request {
        /// Such as https://app.example.com/cart
        url: String,
        /// A field of the request, such as `Cookie: tidegate_app=...`; may be given again
        #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
        headers: Vec<String>,
        /// The listener that it comes to [default: by scheme and port]
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
        /// The client's address, for `ip_hash`
        #[arg(long, value_name = "ADDRESS")]
        client: Option<String>,
        #[command(flatten)]
        admin: AdminOptions,
        /// Print what the admin API answers
        #[arg(long)]
        json: bool,
    },
    /// The last transitions of a backend, why, and when it may come back
    Backend {
        /// Its address, as `tidegate status` shows it
        address: String,
        #[command(flatten)]
        admin: AdminOptions,
        /// Print what the admin API answers
        #[arg(long)]
        json: bool,
    },
}

/// Asks, and prints the answer.
pub(super) fn explain(what: &What) -> ExitCode {
    let (admin, json, query) = match what {
        What::Request { url, headers, listener, client, admin, json } => {
            let mut query = format!("url={}", client::escape(url));
            let headers = headers.iter().map(|header| ("header", header));
            let listener = listener.iter().map(|name| ("listener", name));
            let client = client.iter().map(|address| ("client", address));
            for (key, value) in headers.chain(listener).chain(client) {
                query.push_str(&format!("&{key}={}", client::escape(value)));
            }
            (admin, *json, query)
        }
        What::Backend { address, admin, json } => {
            (admin, *json, format!("backend={}", client::escape(address)))
        }
    };
    match client::get(admin, &format!("/api/explain?{query}")) {
        Ok(answer) if json => print(&answer),
        Ok(answer) => {
            let told: Value = serde_json::from_str(&answer).unwrap_or_default();
            print(told["text"].as_str().unwrap_or_default())
        }
        Err(error) => fail(error),
    }
}
