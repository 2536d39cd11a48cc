use super::*;

const ADDRESSES: [&str; 3] = ["127.0.0.1:3001", "127.0.0.1:3002", "[::1]:3003"];

fn affinity(ttl: Option<Duration>) -> Affinity {
    Affinity::new(&Key::new(b"secret"), "app", "tidegate_app", ttl, ADDRESSES)
}

fn token(member: usize) -> String {
    Key::new(b"secret").token("app", ADDRESSES[member]).as_str().to_owned()
}

#[test]
fn a_token_depends_on_key_pool_and_address_and_on_nothing_else() {
    let of = |key: &[u8], pool, address| Key::new(key).token(pool, address);
    let one = of(b"key", "app", "10.0.0.1:80");
    assert_eq!(one, of(b"key", "app", "10.0.0.1:80"));
    for other in [
        of(b"kez", "app", "10.0.0.1:80"),
        of(b"key", "apq", "10.0.0.1:80"),
        of(b"key", "app", "10.0.0.2:80"),
        of(b"key", "app1", "0.0.0.1:80"),
    ] {
        assert_ne!(one, other);
    }
}

/// Computed with Python's `hmac`, so that a change of the scheme, which would unbind every client at
/// an upgrade, does not go unnoticed.
#[test]
fn a_token_is_the_same_in_every_release() {
    assert_eq!(
        Key::new(b"secret").token("app", "127.0.0.1:3001").as_str(),
        "J06rx_eK9bWbPzkQVpJ0Zg"
    );
}

#[test]
fn a_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", Key::new(b"secret")), "Key(..)");
}

#[test]
fn finds_our_cookie_among_others() {
    let (a, b) = (token(0), token(1));
    let affinity = affinity(None);
    let table: &[(&[&str], Option<usize>)] = &[
        (&[], None),
        (&[""], None),
        (&["tidegate_app={a}"], Some(0)),
        (&["x=1; tidegate_app={b}; y=2"], Some(1)),
        (&["x=1;tidegate_app={b};y=2"], Some(1)),
        (&["  tidegate_app = {a}  ; y"], Some(0)),
        (&["tidegate_app=\"{b}\""], Some(1)),
        (&["tidegate_app=\"{b}"], None),
        (&["x=\"a=b\"; ;=; tidegate_app={a}"], Some(0)),
        // HTTP/2 splits cookies over several fields (RFC 9113 section 8.2.3).
        (&["x=1", "tidegate_app={b}"], Some(1)),
        // Of several with our name, the first that means something.
        (&["tidegate_app={a}; tidegate_app={b}"], Some(0)),
        (&["tidegate_app=gone; tidegate_app={b}"], Some(1)),
        (&["tidegate_app=", "tidegate_app={b}"], Some(1)),
        // Names are compared as they are, and in full.
        (&["Tidegate_App={a}"], None),
        (&["xtidegate_app={a}; tidegate_app2={b}"], None),
        (&["x=tidegate_app={a}"], None),
        (&["tidegate_app={a}x"], None),
        (&["tidegate_app=127.0.0.1:3001"], None),
        (&["tidegate_app"], None),
    ];
    for (fields, want) in table {
        let fields: Vec<String> =
            fields.iter().map(|f| f.replace("{a}", &a).replace("{b}", &b)).collect();
        let got = affinity.member(fields.iter().map(String::as_bytes));
        assert_eq!(got, *want, "{fields:?}");
    }
    assert_eq!(affinity.member([&b"\xFF\xFE;tidegate_app=\xFF"[..]]), None);
}

#[test]
fn sets_a_cookie_that_leads_back() {
    let affinity = affinity(None);
    for member in 0..ADDRESSES.len() {
        let field = affinity.set_cookie(member, false).unwrap();
        let pair = field.split(';').next().unwrap();
        assert_eq!(affinity.member([pair.as_bytes()]), Some(member));
        assert!(!field.contains("300"), "an address in {field}");
    }
    assert_eq!(affinity.set_cookie(ADDRESSES.len(), false), None);
}

#[test]
fn cookie_attributes() {
    let pair = format!("tidegate_app={}", token(0));
    for (ttl, secure, attributes) in [
        (None, false, "; Path=/; HttpOnly; SameSite=Lax"),
        (None, true, "; Path=/; HttpOnly; SameSite=Lax; Secure"),
        (Some(3600), true, "; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"),
        (Some(0), false, "; Path=/; HttpOnly; SameSite=Lax; Max-Age=1"),
    ] {
        let affinity = affinity(ttl.map(Duration::from_secs));
        assert_eq!(affinity.set_cookie(0, secure), Some(format!("{pair}{attributes}")));
    }
}

#[test]
fn cookie_names() {
    for (name, valid) in [
        ("tidegate_app", true),
        ("__Host-x.y", true),
        ("", false),
        ("a b", false),
        ("a=b", false),
        ("a;b", false),
        ("ä", false),
    ] {
        assert_eq!(is_cookie_name(name), valid, "{name}");
    }
}
