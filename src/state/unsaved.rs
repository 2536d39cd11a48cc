//! What is to survive a restart, and could not be written of late.

use std::sync::atomic::{AtomicBool, Ordering};

/// A document that is to survive a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// Which versions serve, and how far swaps are.
    Swaps,
    /// What swaps came to, and what those that run have seen.
    Reports,
    /// What was decided about backends by hand.
    ByHand,
}

impl Document {
    /// Each.
    pub const ALL: [Self; 3] = [Self::Swaps, Self::Reports, Self::ByHand];

    /// A word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Swaps => "swaps",
            Self::Reports => "reports",
            Self::ByHand => "by_hand",
        }
    }

    /// What a restart would do now, where it could not be written.
    fn words(self) -> &'static str {
        match self {
            Self::Swaps => {
                "how swaps stand cannot be written: a restart would not know of the latest"
            }
            Self::Reports => {
                "reports of swaps cannot be written: a restart would forget the latest, though not \
                 which version serves"
            }
            Self::ByHand => {
                "what was drained or disabled by hand cannot be written: a restart would not know of \
                 the latest"
            }
        }
    }
}

/// The documents that could not be written. Set by whoever writes them.
#[derive(Debug, Default)]
pub struct Unsaved([AtomicBool; Document::ALL.len()]);

impl Unsaved {
    /// Takes note of whether one could not be.
    pub fn set(&self, document: Document, unsaved: bool) {
        self.0[document as usize].store(unsaved, Ordering::Relaxed);
    }

    /// Whether this one could not be.
    pub fn has(&self, document: Document) -> bool {
        self.0[document as usize].load(Ordering::Relaxed)
    }

    /// Whatever of these could not be, in words. That of swaps says all that there is to say of their
    /// reports.
    pub fn words(&self, of: &[Document]) -> Vec<String> {
        let of = of.iter().filter(|document| {
            self.has(**document) && !(**document == Document::Reports && self.has(Document::Swaps))
        });
        of.map(|document| format!("{} (the log says why)", document.words())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_once() {
        let unsaved = Unsaved::default();
        assert!(unsaved.words(&Document::ALL).is_empty());
        for document in Document::ALL {
            unsaved.set(document, true);
        }
        let words = unsaved.words(&[Document::Swaps, Document::Reports]);
        assert_eq!(
            words,
            ["how swaps stand cannot be written: a restart would not know of the latest (the log \
              says why)"]
        );
        unsaved.set(Document::Swaps, false);
        assert!(unsaved.words(&Document::ALL)[0].starts_with("reports of swaps"));
    }
}
