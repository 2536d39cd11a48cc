//! Configuration text to checked values, with every error at its place in the text. Pure.

mod choice;
pub mod model;
mod source;

pub use model::{Config, restart_only_changes};
pub use source::{Located, Position, Source, Span};
