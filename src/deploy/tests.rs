//! The verdict as a story, and simulated.

use crate::deploy;

mod promises;
mod simulation;
mod verdict;
