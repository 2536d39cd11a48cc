//! Affinity: a cookie that binds a client to one backend.
//!
//! The cookie holds a keyed hash of the pool and the backend's address (HMAC-SHA-256, 16 bytes of
//! it), never an address: it tells a client nothing about the network, and nobody without the key
//! can make one for a backend of their choice. The same key on several balancers, or after a
//! restart, makes the same cookies.
//!
//! `SameSite=Lax`: `Strict` would withhold the cookie when a client follows a link from another
//! site, and the balancer, taking that for a new client, would bind it elsewhere; `None` needs
//! `Secure` and is for pages embedded in foreign sites, where browsers are giving up cookies anyway.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const HASH_BYTES: usize = 16;
/// Base64 without padding of [`HASH_BYTES`].
const TOKEN_BYTES: usize = 22;

/// The secret that cookies are made with.
pub struct Key(hmac::Key);

impl Key {
    /// A key of the given bytes; 32 random ones are a good choice.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The cookie value that stands for a backend.
    #[must_use]
    pub fn token(&self, pool: &str, address: &str) -> Token {
        let mut context = hmac::Context::with_key(&self.0);
        // The length first, so that no two pairs of pool and address run together alike.
        context.update(&(pool.len() as u64).to_le_bytes());
        context.update(pool.as_bytes());
        context.update(address.as_bytes());
        let tag = context.sign();
        let mut token = [b'A'; TOKEN_BYTES];
        let hash = tag.as_ref().get(..HASH_BYTES).unwrap_or_default();
        // Cannot fail: 16 bytes are 22 characters.
        let written = URL_SAFE_NO_PAD.encode_slice(hash, &mut token);
        debug_assert_eq!(written, Ok(TOKEN_BYTES));
        Token(token)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A cookie value: 22 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token([u8; TOKEN_BYTES]);

impl Token {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The affinity of one pool: its cookie, and which value stands for which member. Built once per
/// change of the member list.
#[derive(Debug)]
pub struct Affinity {
    cookie: Box<str>,
    ttl: Option<Duration>,
    /// By member.
    tokens: Box<[Token]>,
    /// Members by token, sorted for the search.
    members: Box<[(Token, u32)]>,
}

impl Affinity {
    /// `cookie` is a name for which [`is_cookie_name`] holds; `ttl` of `None` is the length of the
    /// browser's session; `addresses` are those of the members, in their order.
    #[must_use]
    pub fn new<'a>(
        key: &Key,
        pool: &str,
        cookie: &str,
        ttl: Option<Duration>,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let tokens: Box<[Token]> =
            addresses.into_iter().map(|address| key.token(pool, address)).collect();
        let mut members: Box<[(Token, u32)]> = tokens.iter().copied().zip(0..).collect();
        members.sort_unstable();
        Self { cookie: cookie.into(), ttl, tokens, members }
    }

    /// The member that a client is bound to, by the values of its `Cookie` fields. With several
    /// cookies of our name (RFC 6265 section 4.2.2 leaves their order open), the first that stands
    /// for a member.
    pub fn member<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>) -> Option<usize> {
        fields
            .into_iter()
            .flat_map(|field| cookies(field, self.cookie.as_bytes()))
            .filter_map(|value| Some(Token(value.try_into().ok()?)))
            .find_map(|token| {
                let at = self.members.binary_search_by(|(t, _)| t.cmp(&token)).ok()?;
                Some(self.members[at].1 as usize)
            })
    }

    /// The value of the `Set-Cookie` field that binds a client to a member; `None` if there is no
    /// such member.
    #[must_use]
    pub fn set_cookie(&self, member: usize, secure: bool) -> Option<String> {
        let token = self.tokens.get(member)?.as_str();
        let mut field = format!("{}={token}; Path=/; HttpOnly; SameSite=Lax", self.cookie);
        if let Some(ttl) = self.ttl {
            // 0 would delete the cookie.
            field += &format!("; Max-Age={}", ttl.as_secs().max(1));
        }
        if secure {
            field += "; Secure";
        }
        Some(field)
    }
}

/// Whether this can be the name of a cookie: an RFC 9110 token (RFC 6265 section 4.1.1).
#[must_use]
pub fn is_cookie_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token)
}

/// The values of all cookies of this name in one `Cookie` field, without the quotes that may stand
/// around them. Lenient as browsers and servers are: spaces do not matter, pairs without `=` do not
/// count.
fn cookies<'a>(field: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    field.split(|&b| b == b';').filter_map(move |pair| {
        let equals = pair.iter().position(|&b| b == b'=')?;
        let (key, value) = pair.split_at(equals);
        let value = value.get(1..)?.trim_ascii();
        let unquoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
        (key.trim_ascii() == name).then_some(unquoted.unwrap_or(value))
    })
}

#[cfg(test)]
mod tests;
