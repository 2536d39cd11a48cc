//! Paths of keys, such as `pools.app.backends[3].weight`: spelled out only where something is wrong,
//! since a file may have a hundred thousand of them.

use std::fmt;
use std::rc::Rc;

/// Where a table or a value stands in the tree; empty for the whole file.
#[derive(Clone, Default)]
pub(in crate::config) struct KeyPath<'r>(Option<Rc<Step<'r>>>);

struct Step<'r> {
    above: KeyPath<'r>,
    to: To<'r>,
}

enum To<'r> {
    Key(&'r str),
    Entry(usize),
}

impl<'r> KeyPath<'r> {
    /// The path of a key of the table that is here.
    pub(super) fn key(&self, key: &'r str) -> Self {
        self.step(To::Key(key))
    }

    /// The path of an entry of the list that is here.
    pub(super) fn entry(&self, index: usize) -> Self {
        self.step(To::Entry(index))
    }

    fn step(&self, to: To<'r>) -> Self {
        KeyPath(Some(Rc::new(Step { above: self.clone(), to })))
    }
}

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else { return Ok(()) };
        step.above.fmt(f)?;
        match step.to {
            To::Key(key) if step.above.0.is_none() => f.write_str(key),
            To::Key(key) => write!(f, ".{key}"),
            To::Entry(index) => write!(f, "[{index}]"),
        }
    }
}
