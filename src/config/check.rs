//! What only shows between sections: names that lead nowhere, and things that are there twice.

mod listeners;
mod pools;
mod routes;

use super::model::Config;
use super::reader::Reader;

/// Reports every contradiction between sections, and what is there without use.
pub(super) fn check(config: &Config, reader: &Reader) {
    listeners::check(config, reader);
    routes::check(config, reader);
    pools::check(config, reader);
}
