//! Weighted random draws in constant time: Vose's alias method.
//!
//! Every member owns one column of equal width. A member lighter than the average lends the rest of
//! its column to one heavier member, so a draw is one point on a line: it names a column, and what
//! is left of it says whether the column's owner or its lodger is meant. All arithmetic is on
//! integers, so shares are exact to 2^-64 and no rounding can leave a column half filled.

use std::hint::select_unpredictable;

/// A table of weighted draws.
pub(super) struct Draws {
    len: u64,
    /// Empty if all weights are equal: then no column has a lodger.
    columns: Box<[Column]>,
}

struct Column {
    /// The part of the column, of 2^64, that is its owner's.
    own: u64,
    lodger: u32,
}

impl Draws {
    /// Builds the table; weights must be above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let len = weights.len() as u64;
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let columns = if equal { Box::default() } else { columns(weights) };
        Self { len, columns }
    }

    /// The member at a point of the line 0..2^64. The table must not be empty.
    pub(super) fn at(&self, point: u64) -> usize {
        let product = u128::from(point) * u128::from(self.len);
        let column = (product >> 64) as usize;
        match self.columns.get(column) {
            // As good as random, so not a branch to be predicted.
            Some(c) => select_unpredictable(product as u64 >= c.own, c.lodger as usize, column),
            None => column,
        }
    }
}

fn columns(weights: &[u32]) -> Box<[Column]> {
    let len = weights.len() as u64;
    let width: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    // Scaled so that the average is exactly one column wide: no fractions from here on.
    let mut left: Vec<u64> = weights.iter().map(|&w| u64::from(w) * len).collect();
    let mut columns: Vec<Column> =
        (0..weights.len() as u32).map(|i| Column { own: u64::MAX, lodger: i }).collect();
    let (mut light, mut heavy): (Vec<usize>, Vec<usize>) =
        (0..left.len()).partition(|&i| left[i] < width);
    while let Some(&h) = heavy.last() {
        let Some(l) = light.pop() else { break };
        columns[l] = Column {
            own: ((u128::from(left[l]) << 64) / u128::from(width)) as u64,
            lodger: h as u32,
        };
        left[h] -= width - left[l];
        if left[h] < width {
            heavy.pop();
            light.push(h);
        }
    }
    columns.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32], points: u64) -> Vec<f64> {
        let draws = Draws::new(weights);
        let mut counts = vec![0u64; weights.len()];
        for k in 0..points {
            counts[draws.at((u64::MAX / points) * k + 7)] += 1;
        }
        counts.iter().map(|&c| c as f64 / points as f64).collect()
    }

    #[test]
    fn shares_follow_weights() {
        let sets: [&[u32]; 6] =
            [&[1], &[1, 1, 1], &[1, 2], &[5, 1, 1], &[1, 1_000_000], &[7, 3, 90, 0xFFFF_FFFF]];
        for weights in sets {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (share, &weight) in shares(weights, 1 << 16).iter().zip(weights) {
                let want = f64::from(weight) / total;
                assert!((share - want).abs() < 1e-3, "{weights:?}: {share} for {want}");
            }
        }
    }

    #[test]
    fn ends_of_the_line_are_members() {
        for weights in [&[1u32, 1, 1][..], &[9, 1, 4]] {
            let draws = Draws::new(weights);
            assert!(draws.at(0) < 3 && draws.at(u64::MAX) < 3);
        }
    }
}
