//! A number from 0 to 1 that one plane writes and the other reads.

use std::sync::atomic::{AtomicU32, Ordering};

/// An atomic ratio. It is kept in 32 bits, of which a share of traffic needs but a few.
#[derive(Debug)]
pub struct Ratio(AtomicU32);

impl Ratio {
    /// Begins with this; what is outside of 0 to 1 is brought there.
    pub fn new(ratio: f64) -> Self {
        Ratio(AtomicU32::new(bits(ratio)))
    }

    /// The present value.
    pub fn get(&self) -> f64 {
        f64::from(f32::from_bits(self.0.load(Ordering::Relaxed)))
    }

    /// Sets it; what is outside of 0 to 1 is brought there.
    pub fn set(&self, ratio: f64) {
        self.0.store(bits(ratio), Ordering::Relaxed);
    }
}

fn bits(ratio: f64) -> u32 {
    // Nonsense must not take a backend out.
    let ratio = if ratio.is_nan() { 1.0 } else { ratio.clamp(0.0, 1.0) };
    (ratio as f32).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_stays_one() {
        for (set, got) in [(0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (7.0, 1.0), (f64::NAN, 1.0)] {
            let ratio = Ratio::new(0.25);
            ratio.set(set);
            assert_eq!(ratio.get(), got, "{set}");
        }
    }
}
