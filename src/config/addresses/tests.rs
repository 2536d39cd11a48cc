use super::*;

fn t(text: &str) -> Scalar<'_> {
    Scalar::Text { text: text.into(), from_env: false }
}

fn here<T>(grammar: impl Fn(&Scalar) -> Result<T, Problem>, text: &str) -> Result<T, Problem> {
    grammar(&t(text))
}

fn help<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
    result.unwrap_err().help.unwrap_or_default()
}

#[test]
fn addresses_to_listen_on() {
    let grammar = bind(Path::new("dir"));
    for (written, shown) in [
        ("0.0.0.0:8080", "0.0.0.0:8080"),
        ("[::]:8080", "[::]:8080"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:x.sock", "unix:dir/x.sock"),
    ] {
        assert_eq!(here(&grammar, written).unwrap().to_string(), shown);
    }
    for (wrong, hint) in [
        (":80", "did you mean \"0.0.0.0:80\", or \"[::]:80\" for both families?"),
        ("80", "did you mean \"0.0.0.0:80\", or \"[::]:80\" for both families?"),
        ("*:80", "did you mean \"0.0.0.0:80\", or \"[::]:80\" for both families?"),
        ("localhost:80", "did you mean \"127.0.0.1:80\"?"),
        ("127.0.0.1", "add a port"),
        ("unix:", "write \"unix:/run/x.sock\""),
        ("example.com:80", "write it like \"0.0.0.0:8080\", \"[::]:8080\" or \"unix:/run/x.sock\""),
    ] {
        assert_eq!(help(here(&grammar, wrong)), hint, "{wrong}");
    }
}

#[test]
fn addresses_of_backends() {
    let grammar = backend(Path::new("dir"));
    for (written, shown) in [
        ("127.0.0.1:3001", "127.0.0.1:3001"),
        ("[::1]:3001", "[::1]:3001"),
        ("App_1.Internal.:80", "app_1.internal:80"),
        ("localhost:3001", "localhost:3001"),
        ("unix:x.sock", "unix:dir/x.sock"),
    ] {
        assert_eq!(here(&grammar, written).unwrap().to_string(), shown);
    }
    for (wrong, hint) in [
        ("127.0.0.1", "add a port: \"127.0.0.1:80\""),
        ("app", "add a port: \"app:80\""),
        ("::1", "write \"[::1]:PORT\""),
        ("127.0.0.1:0", "port 0 cannot be connected to"),
        ("app:0", "the port must be from 1 to 65535"),
        ("app:70000", "the port must be from 1 to 65535"),
        ("127.0.0:80", "write it like \"10.0.0.1:80\" or \"app.internal:80\""),
        ("a b:80", "write it like \"10.0.0.1:80\" or \"app.internal:80\""),
        ("http://app:80/x", "write \"app:80\"; TLS is asked for by `tls` in the pool's `upstream`"),
    ] {
        assert_eq!(help(here(&grammar, wrong)), hint, "{wrong}");
    }
}

#[test]
fn networks() {
    for (written, shown) in [
        ("10.0.0.1", "10.0.0.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00::/8", "fd00::/8"),
        ("::/0", "::/0"),
        ("::1", "::1/128"),
    ] {
        assert_eq!(network(&t(written)).unwrap().to_string(), shown);
    }
    assert_eq!(help(network(&t("10.1.2.3/8"))), "the network is \"10.0.0.0/8\"");
    for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/-1"] {
        assert!(network(&t(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn hosts_of_routes() {
    for (written, shown) in [
        ("App.Example.COM", "app.example.com"),
        ("app.example.com.", "app.example.com"),
        ("app.example.com:8080", "app.example.com"),
        ("*.Example.org", "*.example.org"),
        ("*.example.org:80", "*.example.org"),
        ("localhost", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("0:0::1", "[::1]"),
    ] {
        assert_eq!(host_pattern(&t(written)).unwrap().to_string(), shown, "{written}");
    }
    for (wrong, hint) in [
        ("*", "leave `hosts` out to match any host"),
        ("a.*.b", "a wildcard is the whole first label: \"*.example.org\""),
        ("*a.b", "a wildcard is the whole first label: \"*.example.org\""),
        ("*.", "a wildcard is the whole first label: \"*.example.org\""),
        ("http://a.b", "write the name alone, without scheme and path"),
        ("bücher.de", "write international names in their ASCII form, \"xn--...\""),
        ("a..b", "write it like \"app.example.com\""),
        ("-a.b", "write it like \"app.example.com\""),
        ("[::1]x", "write it like \"app.example.com\""),
        ("[::1", "write it like \"app.example.com\""),
        ("1.2.3", "write it like \"app.example.com\""),
    ] {
        assert_eq!(help(host_pattern(&t(wrong))), hint, "{wrong}");
    }
}

#[test]
fn names_of_servers() {
    for (written, shown) in
        [("App.Internal", "app.internal"), ("::1", "::1"), ("1.2.3.4", "1.2.3.4")]
    {
        assert_eq!(server_name(&t(written)).unwrap(), shown);
    }
    assert!(server_name(&t("a:443")).is_err());
}

#[test]
fn paths() {
    for good in ["/", "/a", "/a/", "/a//b", "/a%2Fb", "/.well-known/x", "/..."] {
        assert_eq!(route_path(&t(good)).unwrap(), good);
    }
    for wrong in
        ["a", "/a?b", "/a#b", "/a b", "/ä", "/a/../b", "/.", "/a/%2E%2e/b", "http://a/", "/a\n"]
    {
        assert!(route_path(&t(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(help(route_path(&t("a"))), "it must begin with `/`: \"/a\"");
    assert_eq!(request_path(&t("/a?b=c")).unwrap(), "/a?b=c");
}
