//! Which route takes a request: a table built on reload and read by every request.
//!
//! Precedence: an exact host, then the longest wildcard suffix (`*.` stands for one or more labels),
//! then no host; the most specific host that has any route on the listener decides, and there is no
//! falling back to a wider one. Then the longest path at a segment boundary; then a route that names
//! the listener before one that does not.
//!
//! Every listener that a route names gets a table of its own, with all that holds for it; the others
//! share one. So the last rule is settled when the table is built, and a lookup is a hash of the
//! host, one for each wildcard length in use, and one for each path segment that some route has: its
//! cost depends on the request and not on how many routes there are.

use std::collections::BTreeMap;

use foldhash::HashMap;

/// The longest host that is looked at. No name in DNS is longer (RFC 1035 section 3.1).
const MAX_HOST_BYTES: usize = 255;

/// A route as it is put into a table.
#[derive(Clone, Debug)]
pub struct RouteEntry<T> {
    /// Indexes of the listeners that it is for; `None`: all.
    pub listeners: Option<Vec<u16>>,
    /// Hosts, `app.example.com` or `*.example.com`, in any case, without port; none: any host.
    pub hosts: Vec<String>,
    /// A prefix, beginning with `/`. `/api` takes `/api` and `/api/x` but not `/apix`. A slash at
    /// its end is part of it: `/api/` takes `/api/` and `/api/x` but not `/api`.
    pub path: String,
    /// What the lookup gives.
    pub value: T,
}

/// Two routes that no request could tell apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "routes {first} and {second} both take {host}{path}: remove one, or give it another host, path \
     or listener"
)]
pub struct DuplicateRoute {
    /// Index of the one that came first.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
    /// The host that they share, empty for any.
    pub host: String,
    /// The path that they share.
    pub path: String,
}

/// Which kind of host decided about a request: the most specific that has any route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// The host itself.
    Exact,
    /// The longest wildcard that stands for it.
    Wildcard,
    /// None: the routes for any host.
    Any,
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No route on the listener is for its host.
    Host,
    /// Routes are for its host, by this kind of match, and none for its path.
    Path(HostMatch),
}

/// Routes, ready to be looked up.
#[derive(Debug)]
pub struct RouteTable<T> {
    values: Box<[T]>,
    /// For every listener that some route names.
    named: BTreeMap<u16, Hosts>,
    /// For all other listeners.
    others: Hosts,
}

impl<T> Default for RouteTable<T> {
    /// A table without routes.
    fn default() -> Self {
        Self { values: Box::default(), named: BTreeMap::new(), others: Hosts::default() }
    }
}

impl<T> RouteTable<T> {
    /// Builds the table.
    ///
    /// # Errors
    /// [`DuplicateRoute`] if two entries are equal in host, path and in whether they name a listener
    /// that both are for. Indexes are those of `entries`.
    pub fn new(entries: Vec<RouteEntry<T>>) -> Result<Self, DuplicateRoute> {
        let mut others = Hosts::default();
        let mut named: BTreeMap<u16, Hosts> = BTreeMap::new();
        for listener in entries.iter().filter_map(|e| e.listeners.as_ref()).flatten() {
            named.entry(*listener).or_default();
        }
        for (index, entry) in entries.iter().enumerate() {
            let tables = named.iter_mut().map(|(listener, hosts)| (Some(listener), hosts));
            for (listener, hosts) in tables.chain([(None, &mut others)]) {
                let names_listener = match &entry.listeners {
                    None => false,
                    Some(named) if listener.is_some_and(|l| named.contains(l)) => true,
                    Some(_) => continue,
                };
                let slot = Slot { index: index as u32, names_listener };
                hosts.add(&entry.hosts, &entry.path, slot)?;
            }
        }
        Ok(Self { values: entries.into_iter().map(|e| e.value).collect(), named, others })
    }

    /// The route of a request; `None` if there is none.
    ///
    /// `host` is as received: in any case, perhaps with a port or a trailing dot, empty if there was
    /// none; one of more than 255 bytes has no route. `path` is without the query. One that does not
    /// begin with a slash (`OPTIONS *`, `CONNECT`) is taken by `/` alone.
    pub fn lookup(&self, listener: u16, host: &str, path: &str) -> Option<&T> {
        self.explain(listener, host, path).ok().map(|(value, _)| value)
    }

    /// The route of a request, and which host decided.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn explain(
        &self,
        listener: u16,
        host: &str,
        path: &str,
    ) -> Result<(&T, HostMatch), NoRoute> {
        let mut buffer = [0; MAX_HOST_BYTES];
        let host = normalised(host, &mut buffer).ok_or(NoRoute::Host)?;
        let hosts = self.named.get(&listener).unwrap_or(&self.others);
        let (paths, by) = hosts.find(host).ok_or(NoRoute::Host)?;
        let slot = paths.find(path.as_bytes()).ok_or(NoRoute::Path(by))?;
        let value = self.values.get(slot.index as usize).ok_or(NoRoute::Path(by))?;
        Ok((value, by))
    }
}

/// Without port and trailing dot, in lower case; `None` if it is too long.
fn normalised<'b>(host: &str, buffer: &'b mut [u8; MAX_HOST_BYTES]) -> Option<&'b [u8]> {
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let folded = buffer.get_mut(..host.len())?;
    folded.copy_from_slice(host);
    folded.make_ascii_lowercase();
    Some(folded)
}

fn without_port(host: &str) -> &str {
    // An IPv6 address stands in brackets, and its colons are no ports (RFC 3986 section 3.2.2).
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(':').unwrap_or(host)
}

/// A route as the tables hold it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    index: u32,
    names_listener: bool,
}

/// The routes of one listener, by host.
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<Box<[u8]>, Paths>,
    /// By what follows the `*.`.
    wildcards: HashMap<Box<[u8]>, Paths>,
    /// Bit n: some wildcard has n labels after the `*.`. Spares a hash of every suffix of a host.
    wildcard_labels: u128,
    any: Option<Paths>,
}

impl Hosts {
    fn add(&mut self, hosts: &[String], path: &str, slot: Slot) -> Result<(), DuplicateRoute> {
        if hosts.is_empty() {
            return self.any.get_or_insert_default().add("", path, slot);
        }
        for host in hosts {
            let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            let paths = match lower.strip_prefix("*.") {
                Some(suffix) => {
                    self.wildcard_labels |= label_bit(dots(suffix.as_bytes()) + 1);
                    self.wildcards.entry(suffix.as_bytes().into()).or_default()
                }
                None => self.exact.entry(lower.as_bytes().into()).or_default(),
            };
            paths.add(&lower, path, slot)?;
        }
        Ok(())
    }

    /// The paths of the most specific host that has any.
    fn find(&self, host: &[u8]) -> Option<(&Paths, HostMatch)> {
        let exact = self.exact.get(host).map(|paths| (paths, HostMatch::Exact));
        exact
            .or_else(|| self.find_wildcard(host).map(|paths| (paths, HostMatch::Wildcard)))
            .or_else(|| self.any.as_ref().map(|paths| (paths, HostMatch::Any)))
    }

    fn find_wildcard(&self, host: &[u8]) -> Option<&Paths> {
        if self.wildcards.is_empty() {
            return None;
        }
        let mut labels = dots(host) + 1;
        let mut suffixes = host.iter().enumerate().filter(|&(_, b)| *b == b'.');
        suffixes.find_map(|(dot, _)| {
            labels -= 1;
            // A leading dot is no label for the `*` to stand for.
            let used = dot > 0 && self.wildcard_labels & label_bit(labels) != 0;
            used.then(|| self.wildcards.get(&host[dot + 1..])).flatten()
        })
    }
}

fn dots(host: &[u8]) -> usize {
    host.iter().filter(|&&b| b == b'.').count()
}

fn label_bit(labels: usize) -> u128 {
    1 << labels.min(127)
}

/// The routes of one host, by path: a trie of segments.
#[derive(Debug, Default)]
struct Paths {
    /// Takes the path that leads here and everything below it.
    here: Option<Slot>,
    /// Takes only what is below, with at least a slash: a prefix that ends in one.
    below: Option<Slot>,
    children: HashMap<Box<[u8]>, Paths>,
}

impl Paths {
    fn add(&mut self, host: &str, path: &str, slot: Slot) -> Result<(), DuplicateRoute> {
        let prefix = path.strip_prefix('/').unwrap_or(path);
        let mut node = self;
        let place = if prefix.is_empty() {
            &mut node.here
        } else {
            let stem = prefix.strip_suffix('/');
            for segment in stem.unwrap_or(prefix).split('/') {
                node = node.children.entry(segment.as_bytes().into()).or_default();
            }
            if stem.is_some() { &mut node.below } else { &mut node.here }
        };
        match *place {
            Some(other) if other.index == slot.index => {}
            Some(other) if other.names_listener == slot.names_listener => {
                return Err(DuplicateRoute {
                    first: other.index as usize,
                    second: slot.index as usize,
                    host: host.to_owned(),
                    path: path.to_owned(),
                });
            }
            Some(other) if other.names_listener => {}
            _ => *place = Some(slot),
        }
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Option<Slot> {
        let mut found = self.here;
        let mut rest = path.strip_prefix(b"/");
        let mut node = self;
        while let Some(below) = rest {
            found = node.below.or(found);
            let end = below.iter().position(|&b| b == b'/');
            let Some(child) = node.children.get(&below[..end.unwrap_or(below.len())]) else {
                break;
            };
            node = child;
            found = node.here.or(found);
            rest = end.map(|slash| &below[slash + 1..]);
        }
        found
    }
}

#[cfg(test)]
mod tests;
