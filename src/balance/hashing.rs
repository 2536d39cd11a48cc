//! Consistent hashing: the same key goes to the same member, and a change of the member list moves
//! only the keys that it has to.
//!
//! Small sets use rendezvous hashing: every member bids for the key and the highest bid wins, so
//! nothing is built and a removed member's keys alone move, each to its second bidder. Asking 10,000
//! members per request would cost too much, so above [`EXACT`](super::policy::EXACT) a Maglev table
//! is built once: every member claims slots in an order of its own, as often as its weight says, and
//! a key is one look into the table. It moves a few more keys than it must (a test says how many).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::policy::Member;
use super::rotation::{GOLDEN, from};

/// A 64-bit hash that is the same on every machine and in every release, for member keys and client
/// addresses: FNV-1a, then mixed so that all bits count. Not for keys that an attacker may choose to
/// collide.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    mix(fnv)
}

/// The finaliser of SplitMix64: every input bit flips every output bit about half of the time.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number from 0.0 to below 1.0 that belongs to a hash and says nothing about who its bidders are.
pub(super) fn uniform(hash: u64) -> f64 {
    (mix(hash ^ 0x5851_F42D_4C95_7F2D) >> 11) as f64 / (1u64 << 53) as f64
}

/// The highest bidder for `hash` among the members that are not skipped.
///
/// With unequal weights a bid is an exponential draw divided by the weight, the least of which wins
/// (the order by bid is the same as without weights where they are equal).
pub(super) fn rendezvous(
    members: &[Member],
    equal: bool,
    hash: u64,
    skip: impl Fn(usize) -> bool,
) -> Option<usize> {
    let hash = mix(hash.wrapping_add(GOLDEN));
    let bids = members
        .iter()
        .enumerate()
        .filter(|&(i, _)| !skip(i))
        .map(|(i, member)| (i, member.weight, mix(member.key ^ hash)));
    if equal {
        return bids.max_by_key(|&(_, _, bid)| bid).map(|(i, ..)| i);
    }
    bids.map(|(i, weight, bid)| {
        let uniform = ((bid >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (i, -uniform.ln() / f64::from(weight))
    })
    .min_by(|a, b| a.1.total_cmp(&b.1))
    .map(|(i, _)| i)
}

/// Table sizes by the most members that they serve: primes, so that every step through the table
/// visits all of it. Up to 512 members have 128 slots or more each, up to 16,384 have 16.
const SIZES: [(usize, u64); 4] =
    [(128, 16_381), (512, 65_537), (16_384, 262_139), (usize::MAX, 1_048_573)];
/// Slots tried for a key before the members are searched one after another.
const TRIES: u64 = 16;

/// A Maglev table (Eisenbud et al., 2016), weighted.
pub(super) struct Maglev {
    slots: Box<[u32]>,
    members: usize,
}

impl Maglev {
    /// Fills a table. Members take turns by stride scheduling: the k-th turn of a member is due at k
    /// divided by its weight, a time that does not depend on the others, which is what keeps their
    /// claims in place when one of them leaves.
    pub(super) fn new(members: &[Member]) -> Self {
        const FREE: u32 = u32::MAX;
        let size = SIZES
            .iter()
            .find(|(most, _)| members.len() <= *most)
            .map_or(SIZES[0].1, |&(_, size)| size);
        let heaviest = members.iter().map(|m| u64::from(m.weight)).max().unwrap_or(1);
        // Low bits of a stride that keep it exact enough for weights that do not divide each other.
        let stride = |weight: u32| (heaviest << 20) / u64::from(weight);
        let mut claims: Vec<(u64, u64)> = members
            .iter()
            .map(|m| (mix(m.key) % size, mix(m.key.wrapping_add(GOLDEN)) % (size - 1) + 1))
            .collect();
        let mut due: BinaryHeap<Reverse<(u64, u64, u32)>> = members
            .iter()
            .enumerate()
            .map(|(i, m)| Reverse((stride(m.weight), mix(m.key), i as u32)))
            .collect();
        let mut slots = vec![FREE; size as usize].into_boxed_slice();
        for _ in 0..size {
            let Some(mut turn) = due.peek_mut() else { break };
            let Reverse((time, _, i)) = &mut *turn;
            let (next, step) = &mut claims[*i as usize];
            while slots[*next as usize] != FREE {
                *next = (*next + *step) % size;
            }
            slots[*next as usize] = *i;
            *time += stride(members[*i as usize].weight);
            drop::<PeekMut<'_, _>>(turn);
        }
        Self { slots, members: members.len() }
    }

    /// The member of `hash`; if it is skipped, that of the next slot in the key's own order.
    pub(super) fn pick(&self, hash: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
        let size = self.slots.len() as u64;
        (0..TRIES)
            .map(|k| mix(hash.wrapping_add(GOLDEN.wrapping_mul(k + 1))).checked_rem(size))
            .map_while(|slot| Some(self.slots[slot? as usize] as usize))
            .find(|&i| !skip(i))
            .or_else(|| from(self.members, hash).find(|&i| !skip(i)))
    }
}

/// The hash by which a client is recognised under [`Policy::IpHash`](super::Policy::IpHash).
#[must_use]
pub fn client_hash(client: std::net::IpAddr) -> u64 {
    stable_hash(client.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: impl IntoIterator<Item = u32>) -> Vec<Member> {
        let keyed = |(i, weight)| Member {
            key: stable_hash(format!("10.0.{}.{}:80", i / 250, i % 250).as_bytes()),
            weight,
        };
        weights.into_iter().enumerate().map(keyed).collect()
    }

    fn all(_: usize) -> bool {
        false
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(stable_hash(b""), 0xF52A_15E9_A9B5_E89B);
        assert_eq!(stable_hash(b"127.0.0.1:3001"), stable_hash(b"127.0.0.1:3001"));
        assert_ne!(stable_hash(b"127.0.0.1:3001"), stable_hash(b"127.0.0.1:3002"));
    }

    #[test]
    fn table_sizes_are_prime() {
        for (_, size) in SIZES {
            assert!((2..).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size}");
        }
    }

    #[test]
    fn rendezvous_moves_only_the_keys_of_a_removed_member() {
        for weights in [vec![1; 10], vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] {
            let equal = weights.iter().all(|&w| w == 1);
            let members = members(weights);
            for key in 0..5_000 {
                let before = rendezvous(&members, equal, key, all);
                let after = rendezvous(&members, equal, key, |i| i == 3);
                if before != Some(3) {
                    assert_eq!(before, after);
                }
            }
        }
    }

    #[test]
    fn rendezvous_keeps_keys_when_weights_become_unequal() {
        let (even, mut uneven) = (members([4; 8]), members([4; 8]));
        uneven[2].weight = 3;
        for key in 0..5_000 {
            let (before, after) =
                (rendezvous(&even, true, key, all), rendezvous(&uneven, false, key, all));
            if before != Some(2) {
                assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn rendezvous_shares_follow_weights() {
        let members = members([1, 2, 5]);
        let mut counts = [0u32; 3];
        for key in 0..80_000 {
            counts[rendezvous(&members, false, key, all).unwrap()] += 1;
        }
        for (count, want) in counts.into_iter().zip([10_000.0, 20_000.0, 50_000.0]) {
            assert!((f64::from(count) - want).abs() < 0.03 * want, "{count} for {want}");
        }
    }

    #[test]
    fn maglev_shares_follow_weights() {
        let weights: Vec<u32> = (0..100).map(|i| 1 + i % 4).collect();
        let table = Maglev::new(&members(weights.iter().copied()));
        let mut slots = vec![0u32; weights.len()];
        table.slots.iter().for_each(|&i| slots[i as usize] += 1);
        let unit = table.slots.len() as f64 / f64::from(weights.iter().sum::<u32>());
        for (&got, &weight) in slots.iter().zip(&weights) {
            let want = unit * f64::from(weight);
            assert!((f64::from(got) - want).abs() <= 2.0, "{got} for {want}");
        }
    }

    #[test]
    fn maglev_moves_few_keys_when_a_member_leaves() {
        for weights in [vec![1; 100], (0..100).map(|i| 1 + i % 4).collect()] {
            let before = members(weights);
            let mut after = before.clone();
            after.remove(40);
            let (old, new) = (Maglev::new(&before), Maglev::new(&after));
            let keys = 50_000;
            let moved = (0..keys)
                .filter(|&key| {
                    let was = old.pick(key, all).unwrap();
                    was != 40 && before[was].key != after[new.pick(key, all).unwrap()].key
                })
                .count();
            assert!(moved < keys as usize / 50, "{moved} of {keys} moved without need");
        }
    }

    #[test]
    fn maglev_finds_the_last_one_standing() {
        let table = Maglev::new(&members([1; 200]));
        for key in 0..200 {
            assert_eq!(table.pick(key, |i| i != 123), Some(123));
            assert_eq!(table.pick(key, |_| true), None);
        }
    }
}
