//! Series of the configuration in force, and of what is to survive a restart.

use std::sync::atomic::Ordering;

use super::text::Text;
use crate::state::{Document, Shared};
use crate::telemetry::metrics as metric;

pub(super) fn write(shared: &Shared, generation: u64, text: &mut Text<'_>) {
    let reloads = &shared.reloads;
    let mut samples = text.family(&metric::CONFIG_RELOADS);
    samples.add(&["success"], reloads.succeeded.get());
    samples.add(&["failure"], reloads.failed.get());
    let succeeded = reloads.last_succeeded.load(Ordering::Relaxed);
    text.family(&metric::CONFIG_LAST_RELOAD_SUCCESS).add(&[], u64::from(succeeded));
    let timestamp = reloads.last_success_timestamp.load(Ordering::Relaxed);
    text.family(&metric::CONFIG_LAST_RELOAD_TIMESTAMP).add(&[], timestamp);
    text.family(&metric::CONFIG_GENERATION).add(&[], generation);
    let mut saved = text.family(&metric::STATE_SAVED);
    for document in Document::ALL {
        saved.add(&[document.label()], !shared.unsaved.has(document));
    }
}
