//! Whose word counts: the peers whose `X-Forwarded-*` fields are believed.

use std::net::{IpAddr, Ipv6Addr};

/// Networks, and perhaps unix sockets, from which forwarded addresses are believed. The default
/// trusts nobody.
///
/// IPv4 addresses in IPv6 clothes (`::ffff:192.0.2.1`), as sockets that serve both families report
/// them, are the IPv4 addresses that they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    v4: Vec<Network<u32>>,
    v6: Vec<Network<u128>>,
    unix: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network<T> {
    address: T,
    mask: T,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No address at all.
    #[error(
        "`{0}` is not an address; write an IP address, a network like `10.0.0.0/8`, or `unix:`"
    )]
    Address(String),
    /// The part behind the slash.
    #[error("the prefix length of `{entry}` must be a number from 0 to {max}")]
    Prefix {
        /// The entry as written.
        entry: String,
        /// The bits of its address family.
        max: u8,
    },
    /// Bits behind the prefix, most likely a typing error in either.
    #[error("`{entry}` has bits set behind its prefix; write `{network}` for the whole network")]
    HostBits {
        /// The entry as written.
        entry: String,
        /// The network that it lies in.
        network: String,
    },
}

impl TrustedProxies {
    /// Reads addresses, networks in CIDR notation, and `unix:` for all peers on unix sockets.
    ///
    /// # Errors
    /// The first entry that is none of these.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<TrustedProxies, TrustError> {
        let mut trusted = TrustedProxies::default();
        for entry in entries {
            trusted.add(entry.as_ref())?;
        }
        Ok(trusted)
    }

    fn add(&mut self, entry: &str) -> Result<(), TrustError> {
        if entry == "unix:" {
            self.unix = true;
            return Ok(());
        }
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (entry, None),
        };
        let address: IpAddr = address.parse().map_err(|_| TrustError::Address(entry.to_owned()))?;
        let max: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => parse_prefix(digits, max)
                .ok_or_else(|| TrustError::Prefix { entry: entry.to_owned(), max })?,
            None => max,
        };
        let host_bits = |network: IpAddr| TrustError::HostBits {
            entry: entry.to_owned(),
            network: format!("{network}/{prefix}"),
        };
        match (address, mapped(address)) {
            (IpAddr::V4(v4), _) => self.add_v4(v4.to_bits(), prefix, host_bits),
            (IpAddr::V6(_), Some(v4)) if prefix >= 96 => self.add_v4(v4, prefix - 96, host_bits),
            (IpAddr::V6(v6), _) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                let network = Network { address: v6.to_bits() & mask, mask };
                if network.address != v6.to_bits() {
                    return Err(host_bits(Ipv6Addr::from_bits(network.address).into()));
                }
                self.v6.push(network);
                Ok(())
            }
        }
    }

    fn add_v4(
        &mut self,
        bits: u32,
        prefix: u8,
        host_bits: impl Fn(IpAddr) -> TrustError,
    ) -> Result<(), TrustError> {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let network = Network { address: bits & mask, mask };
        if network.address != bits {
            return Err(host_bits(std::net::Ipv4Addr::from_bits(network.address).into()));
        }
        self.v4.push(network);
        Ok(())
    }

    /// True if this address is trusted.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = v4.to_bits();
                self.v4.iter().any(|network| bits & network.mask == network.address)
            }
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                self.v6.iter().any(|network| bits & network.mask == network.address)
            }
        }
    }

    /// True if peers on unix sockets are trusted.
    pub fn contains_unix(&self) -> bool {
        self.unix
    }

    /// True if nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && !self.unix
    }
}

fn parse_prefix(digits: &str, max: u8) -> Option<u8> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|prefix| *prefix <= max)
}

fn mapped(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(std::net::Ipv4Addr::to_bits),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(entries: &[&str], address: &str) -> bool {
        TrustedProxies::parse(entries).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_their_addresses() {
        let table: [(&[&str], &str, bool); 16] = [
            (&[], "127.0.0.1", false),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", false),
            (&["127.0.0.1"], "::ffff:127.0.0.1", true),
            (&["::ffff:127.0.0.1"], "127.0.0.1", true),
            (&["::ffff:10.0.0.0/104"], "10.9.9.9", true),
            (&["10.0.0.0/8"], "10.255.0.1", true),
            (&["10.0.0.0/8"], "11.0.0.1", false),
            (&["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.9", true),
            (&["0.0.0.0/0"], "203.0.113.1", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&["::/0"], "2001:db8::1", true),
            (&["::/0"], "203.0.113.1", false),
            (&["2001:db8::/33"], "2001:db8:7fff::1", true),
            (&["2001:db8::/33"], "2001:db8:8000::1", false),
            (&["::1"], "::1", true),
        ];
        for (entries, address, held) in table {
            assert_eq!(contains(entries, address), held, "{address} in {entries:?}");
        }
    }

    #[test]
    fn unix_sockets_are_trusted_by_name() {
        let trusted = TrustedProxies::parse(&["unix:"]).unwrap();
        assert!(trusted.contains_unix() && !trusted.is_empty());
        assert!(!TrustedProxies::parse(&["::/0", "0.0.0.0/0"]).unwrap().contains_unix());
        assert!(TrustedProxies::default().is_empty());
    }

    #[test]
    fn errors_say_what_to_write() {
        let table = [
            ("example.com", "not an address"),
            ("", "not an address"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("::/129", "0 to 128"),
            ("10.0.0.1/8", "write `10.0.0.0/8`"),
            ("2001:db8::1/32", "write `2001:db8::/32`"),
        ];
        for (entry, words) in table {
            let error = TrustedProxies::parse(&[entry]).unwrap_err().to_string();
            assert!(error.contains(words), "{entry}: {error}");
        }
    }
}
