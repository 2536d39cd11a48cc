use super::*;
use crate::certs::generate::{Authority, PemPair, Validity, self_signed};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

fn valid_for(lifetime_days: u32) -> Validity {
    Validity::of_days(now(), lifetime_days)
}

fn pair(names: &[&str]) -> PemPair {
    self_signed(names, valid_for(90)).unwrap()
}

fn parse_pair(pair: &PemPair) -> Identity {
    parse(pair.cert.as_bytes(), pair.key.as_bytes(), now()).unwrap()
}

fn error(cert: &str, key: &str) -> Error {
    parse(cert.as_bytes(), key.as_bytes(), now()).unwrap_err()
}

#[test]
fn reads_names_times_and_key() {
    let identity = parse_pair(&pair(&["App.Example.com", "*.example.org", "127.0.0.1", "::1"]));
    assert_eq!(identity.names, ["app.example.com", "*.example.org", "127.0.0.1", "::1"]);
    assert_eq!(identity.not_before, now() - Duration::from_secs(3600));
    assert_eq!(identity.not_after, now() + days(90));
    assert_eq!(identity.certified_key.cert.len(), 1);
    identity.certified_key.keys_match().unwrap();
    assert_eq!(identity.warnings, []);
}

#[test]
fn fingerprint_is_the_digest_of_the_certificate() {
    // What `printf abc | sha256sum` prints.
    assert_eq!(
        fingerprint(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let pair = pair(&["a.test"]);
    let identity = parse_pair(&pair);
    assert_eq!(identity.fingerprint, fingerprint(&identity.certified_key.cert[0]));
}

#[test]
fn certificate_and_key_may_share_a_file() {
    let pair = pair(&["a.test"]);
    let both = format!("A note.\r\n{}\n{}", pair.key, pair.cert);
    let identity = parse(both.as_bytes(), both.as_bytes(), now()).unwrap();
    assert_eq!(identity.names, ["a.test"]);
}

#[test]
fn warns_by_the_time_that_is_left() {
    let validity = |from: SystemTime, to: SystemTime| validity_warning(from, to, now());
    let cases = [
        (now() - days(60), now() + days(30), None),
        (now() - days(76), now() + days(14), None),
        (now() - days(77), now() + days(13), Some(Warning::ExpiresSoon { days: 13 })),
        (now() - days(90), now(), Some(Warning::ExpiresSoon { days: 0 })),
        (now() - days(93), now() - days(3), Some(Warning::Expired { days: 3 })),
        (now(), now() + days(90), None),
        (now() + days(2), now() + days(90), Some(Warning::NotYetValid { days: 2 })),
        // Lives for six days: all is well until two are left.
        (now(), now() + days(6), None),
        (now() - days(5), now() + days(1), Some(Warning::ExpiresSoon { days: 1 })),
    ];
    for (index, (from, to, warning)) in cases.into_iter().enumerate() {
        assert_eq!(validity(from, to), warning, "case {index}");
    }
}

#[test]
fn an_expired_certificate_is_a_warning_that_follows_the_clock() {
    let pair = pair(&["a.test"]);
    let later = now() + days(100);
    let identity = parse(pair.cert.as_bytes(), pair.key.as_bytes(), later).unwrap();
    assert_eq!(identity.warnings, [Warning::Expired { days: 10 }]);
    assert_eq!(identity.validity_warning(now()), None);
}

#[test]
fn a_certificate_without_names_is_a_warning() {
    assert_eq!(parse_pair(&pair(&[])).warnings, [Warning::NoNames]);
}

#[test]
fn times_reach_beyond_both_ends_of_unix_time() {
    let time = |seconds| system_time(ASN1Time::from_timestamp(seconds).unwrap());
    assert_eq!(time(-86_400), SystemTime::UNIX_EPOCH - days(1));
    assert_eq!(time(86_400), SystemTime::UNIX_EPOCH + days(1));
    let far = Validity { not_before: now(), not_after: now() + days(10_000_000) };
    let identity = parse_pair(&self_signed(&["a.test"], far).unwrap());
    assert_eq!(
        identity.not_after,
        SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799),
        "a certificate cannot say more than the end of 9999"
    );
}

#[test]
fn a_chain_is_served_in_its_order_and_checked_for_it() {
    let signer = Authority::new("Signer", valid_for(90)).unwrap();
    let stranger = Authority::new("Stranger", valid_for(90)).unwrap();
    let leaf = signer.issue(&["a.test"], valid_for(90)).unwrap();

    let good = PemPair { cert: format!("{}{}", leaf.cert, signer.pem()), key: leaf.key.clone() };
    let identity = parse_pair(&good);
    assert_eq!(identity.certified_key.cert.len(), 2);
    assert_eq!(identity.warnings, []);

    let strange =
        PemPair { cert: format!("{}{}", leaf.cert, stranger.pem()), key: leaf.key.clone() };
    assert_eq!(parse_pair(&strange).warnings, [Warning::ChainOrder { position: 2 }]);

    let reversed = format!("{}{}", signer.pem(), leaf.cert);
    assert!(matches!(error(&reversed, &leaf.key), Error::LeafNotFirst { position: 2 }));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let error = error(&pair(&["a.test"]).cert, &pair(&["a.test"]).key);
    assert!(matches!(error, Error::KeyMismatch));
    assert_eq!(error.input(), Input::Key);
    assert!(error.to_string().starts_with("the key does not belong to this certificate"));
}

#[test]
fn swapped_files_are_named_as_such() {
    let pair = pair(&["a.test"]);
    let error = error(&pair.key, &pair.cert);
    assert_eq!(
        error.to_string(),
        "the certificate file holds no certificate, only PRIVATE KEY: \
         were `cert` and `key` swapped?"
    );
    assert_eq!(error.input(), Input::Certificate);
}

#[test]
fn a_certificate_in_place_of_the_key_is_named_as_such() {
    let pair = pair(&["a.test"]);
    assert_eq!(
        error(&pair.cert, &pair.cert).to_string(),
        "the key file holds no private key, only CERTIFICATE: were `cert` and `key` swapped?"
    );
}

#[test]
fn a_signing_request_is_no_certificate() {
    let pair = pair(&["a.test"]);
    let request = pair.cert.replace("CERTIFICATE", "CERTIFICATE REQUEST");
    assert_eq!(
        error(&request, &pair.key).to_string(),
        "the certificate file holds no certificate, only CERTIFICATE REQUEST: a request goes to \
         a certificate authority, which answers with the certificate"
    );
}

#[test]
fn empty_and_binary_files_are_told_apart() {
    let pair = pair(&["a.test"]);
    assert!(matches!(error("", &pair.key), Error::Empty(Input::Certificate)));
    assert!(matches!(error(&pair.cert, " \r\n"), Error::Empty(Input::Key)));
    let der = parse_pair(&pair).certified_key.cert[0].to_vec();
    let error = parse(&der, pair.key.as_bytes(), now()).unwrap_err();
    assert!(matches!(error, Error::NotPem(Input::Certificate)));
    assert!(error.to_string().contains("openssl x509 -inform DER"));
}

#[test]
fn encrypted_keys_of_both_forms_are_named_as_such() {
    let pair = pair(&["a.test"]);
    let pkcs8 = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(error(&pair.cert, &pkcs8), Error::EncryptedKey));
    let legacy = "-----BEGIN EC PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n\
                  DEK-Info: AES-256-CBC,00\r\n\r\nAAAA\r\n-----END EC PRIVATE KEY-----\r\n";
    assert!(matches!(error(&pair.cert, legacy), Error::EncryptedKey));
}

#[test]
fn a_file_that_was_cut_off_is_damaged() {
    let pair = pair(&["a.test"]);
    let cut = |text: &str| text[..text.len() / 2].to_owned();
    assert_eq!(
        error(&cut(&pair.cert), &pair.key).to_string(),
        "the certificate file is damaged PEM: no line says \"-----END CERTIFICATE-----\"; \
         was it cut off or edited? Copy it once more"
    );
    assert!(matches!(
        error(&pair.cert, &cut(&pair.key)),
        Error::DamagedPem { input: Input::Key, .. }
    ));
}

#[test]
fn sections_that_hold_something_else_are_refused() {
    let pair = pair(&["a.test"]);
    let nonsense = |label| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let second = format!("{}{}", pair.cert, nonsense("CERTIFICATE"));
    assert!(matches!(error(&second, &pair.key), Error::Malformed { position: 2, .. }));
    assert!(matches!(error(&pair.cert, &nonsense("PRIVATE KEY")), Error::UnusableKey(_)));
}

#[test]
fn authorities_are_read_under_their_own_name() {
    let authority = Authority::new("Signer", valid_for(90)).unwrap();
    let two = format!("{0}{0}", authority.pem());
    assert_eq!(pem::authorities(two.as_bytes()).unwrap().len(), 2);
    let error = pem::authorities(pair(&["a.test"]).key.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "the CA file holds no certificate, only PRIVATE KEY");
}
