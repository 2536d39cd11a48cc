//! The verdict and the swap as stories, and the verdict simulated.

use crate::deploy;

mod promises;
mod resume;
pub(super) mod simulation;
mod swap;
mod verdict;
mod world;
