use super::*;

/// `listeners host path`, with `*` for all listeners and `-` for any host; the value is the index.
fn table(routes: &[&str]) -> Result<RouteTable<usize>, DuplicateRoute> {
    RouteTable::new(routes.iter().enumerate().map(|(i, route)| entry(i, route)).collect())
}

fn entry(value: usize, route: &str) -> RouteEntry<usize> {
    let parts: Vec<&str> = route.split(' ').collect();
    let [listeners, hosts, path] = parts[..] else { panic!("three parts: {route}") };
    let list = |text: &str, none: &str| -> Option<Vec<String>> {
        (text != none).then(|| text.split(',').map(str::to_owned).collect())
    };
    RouteEntry {
        listeners: list(listeners, "*")
            .map(|l| l.iter().map(|listener| listener.parse().unwrap()).collect()),
        hosts: list(hosts, "-").unwrap_or_default(),
        path: path.to_owned(),
        value,
    }
}

fn expect(routes: &[&str], requests: &[(u16, &str, &str, Option<usize>)]) {
    let table = table(routes).unwrap();
    for &(listener, host, path, want) in requests {
        let got = table.lookup(listener, host, path).copied();
        assert_eq!(got, want, "{host}{path} on {listener}");
    }
}

#[test]
fn the_most_specific_host_decides() {
    expect(
        &["* - /", "* *.example.com /", "* *.b.example.com /", "* a.b.example.com /"],
        &[
            (0, "a.b.example.com", "/", Some(3)),
            (0, "c.b.example.com", "/", Some(2)),
            (0, "d.c.b.example.com", "/", Some(2)),
            (0, "b.example.com", "/", Some(1)),
            (0, "example.com", "/", Some(0)),
            (0, ".example.com", "/", Some(0)),
            (0, "notexample.com", "/", Some(0)),
            (0, "com", "/", Some(0)),
            (0, "", "/", Some(0)),
        ],
    );
}

#[test]
fn there_is_no_falling_back_to_a_wider_host() {
    expect(
        &["* - /", "* *.example.com /wide", "* app.example.com /app"],
        &[
            (0, "app.example.com", "/app/x", Some(2)),
            (0, "app.example.com", "/wide", None),
            (0, "other.example.com", "/wide", Some(1)),
            (0, "other.example.com", "/", None),
            (0, "else.where", "/", Some(0)),
        ],
    );
}

#[test]
fn a_host_without_routes_on_the_listener_does_not_decide() {
    expect(
        &["* - /", "1 app.example.com /", "2 *.example.com /x"],
        &[
            (0, "app.example.com", "/x", Some(0)),
            (1, "app.example.com", "/x", Some(1)),
            (2, "app.example.com", "/x", Some(2)),
            (2, "app.example.com", "/", None),
            (9, "app.example.com", "/x", Some(0)),
        ],
    );
}

#[test]
fn the_longest_path_wins_at_a_segment_boundary() {
    expect(
        &["* - /", "* - /api", "* - /api/v1", "* - /api/v1/", "* - //", "* - /a%2Fb"],
        &[
            (0, "h", "/", Some(0)),
            (0, "h", "/apix", Some(0)),
            (0, "h", "/api", Some(1)),
            (0, "h", "/api/", Some(1)),
            (0, "h", "/api/v", Some(1)),
            (0, "h", "/api/v1", Some(2)),
            (0, "h", "/api/v1/", Some(3)),
            (0, "h", "/api/v1/x/y", Some(3)),
            (0, "h", "/API", Some(0)),
            (0, "h", "//", Some(4)),
            (0, "h", "//api", Some(4)),
            (0, "h", "/a%2Fb/c", Some(5)),
            (0, "h", "/a/b", Some(0)),
            (0, "h", "*", Some(0)),
            (0, "h", "", Some(0)),
        ],
    );
}

#[test]
fn a_trailing_slash_is_part_of_the_prefix() {
    expect(
        &["* - /api/"],
        &[
            (0, "h", "/api", None),
            (0, "h", "/api/", Some(0)),
            (0, "h", "/api//x", Some(0)),
            (0, "h", "/", None),
            (0, "h", "*", None),
        ],
    );
}

#[test]
fn naming_the_listener_breaks_a_tie_and_nothing_more() {
    expect(
        &["* h /", "1 h /", "1 h /a", "* h /a/b", "1 - /"],
        &[
            (0, "h", "/", Some(0)),
            (1, "h", "/", Some(1)),
            (1, "h", "/a", Some(2)),
            (0, "h", "/a", Some(0)),
            (1, "h", "/a/b", Some(3)),
            (1, "i", "/", Some(4)),
            (0, "i", "/", None),
        ],
    );
}

#[test]
fn hosts_compare_without_case_port_and_trailing_dot() {
    let long = format!("{}.example.com", "a".repeat(255 - 12));
    let too_long = format!("a{long}");
    expect(
        &["* App.Example.com. /", "* [::1] /", "* 10.0.0.1 /", "* *.EXAMPLE.com /"],
        &[
            (0, "app.example.com", "/", Some(0)),
            (0, "APP.example.COM:8080", "/", Some(0)),
            (0, "app.example.com.:80", "/", Some(0)),
            (0, "app.example.com:", "/", Some(0)),
            (0, "app.example.com:http", "/", None),
            (0, "[::1]", "/", Some(1)),
            (0, "[::1]:8443", "/", Some(1)),
            (0, "[::2]:8443", "/", None),
            (0, "[::1", "/", None),
            (0, "10.0.0.1:80", "/", Some(2)),
            (0, &long, "/", Some(3)),
            (0, &too_long, "/", None),
        ],
    );
    let any = table(&["* - /"]).unwrap();
    assert_eq!(any.lookup(0, &too_long, "/"), None);
}

#[test]
fn hosts_of_more_labels_than_any_name_has() {
    let labels = |n: usize| vec!["a"; n].join(".");
    let wildcard = format!("* *.{} /", labels(126));
    let table = table(&[&wildcard, "* - /"]).unwrap();
    assert_eq!(table.lookup(0, &labels(127), "/"), Some(&0));
    assert_eq!(table.lookup(0, &labels(128), "/"), Some(&0));
    assert_eq!(table.lookup(0, &labels(126), "/"), Some(&1));
    assert_eq!(table.lookup(0, &".".repeat(255), "/"), Some(&1));
}

#[test]
fn routes_that_cannot_be_told_apart_are_an_error() {
    let duplicates: [(&[&str], &str, &str); 6] = [
        (&["* - /", "* - /"], "", "/"),
        (&["* a,b /x", "* c,B /x"], "b", "/x"),
        (&["* *.a /", "* *.A. /"], "*.a", "/"),
        (&["1,2 a /", "2,3 a /"], "a", "/"),
        (&["* a /x/", "* a /x/"], "a", "/x/"),
        (&["* a /", "* a /"], "a", "/"),
    ];
    for (routes, host, path) in duplicates {
        let (host, path) = (host.to_owned(), path.to_owned());
        assert_eq!(table(routes).err(), Some(DuplicateRoute { first: 0, second: 1, host, path }));
    }
    // Neither the order nor a third route that stands between them hides a pair.
    assert_eq!(
        table(&["1 a /", "* a /", "1 a /"]).map_err(|e| (e.first, e.second)).err(),
        Some((0, 2))
    );
    assert_eq!(
        table(&["* a /", "1 a /", "* a /"]).map_err(|e| (e.first, e.second)).err(),
        Some((0, 2))
    );
}

#[test]
fn routes_that_can_be_told_apart_are_none() {
    for routes in [
        &["* a /", "1 a /"][..],
        &["1 a /", "2 a /"],
        &["* a /x", "* a /x/"],
        &["* *.a /", "* a /"],
        &["* a,A,a. /", "* b /"],
    ] {
        assert!(table(routes).is_ok(), "{routes:?}");
    }
}

/// The rules as they are written down, by looking at every route.
fn naive(entries: &[RouteEntry<usize>], listener: u16, host: &str, path: &str) -> Option<usize> {
    let on_listener =
        |e: &&RouteEntry<usize>| e.listeners.as_ref().is_none_or(|l| l.contains(&listener));
    let specificity = |e: &RouteEntry<usize>| -> Option<usize> {
        let rank = |pattern: &String| match pattern.strip_prefix('*') {
            Some(suffix) => {
                (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len())
            }
            None => (pattern == host).then_some(1000),
        };
        if e.hosts.is_empty() { Some(0) } else { e.hosts.iter().filter_map(rank).max() }
    };
    let takes = |prefix: &str| {
        prefix == "/"
            || path == prefix
            || path
                .strip_prefix(prefix)
                .is_some_and(|r| prefix.ends_with('/') || r.starts_with('/'))
    };
    let decides = entries.iter().filter(on_listener).filter_map(specificity).max()?;
    entries
        .iter()
        .filter(on_listener)
        .filter(|e| specificity(e) == Some(decides) && takes(&e.path))
        .max_by_key(|e| (e.path.len(), e.listeners.is_some()))
        .map(|e| e.value)
}

#[test]
fn agrees_with_looking_at_every_route() {
    let mut rng = fastrand::Rng::with_seed(0x7ABE);
    let name = |rng: &mut fastrand::Rng, min: usize| -> String {
        let labels: Vec<&str> =
            (0..rng.usize(min..4)).map(|_| ["a", "b", "cc"][rng.usize(..3)]).collect();
        labels.join(".")
    };
    let path = |rng: &mut fastrand::Rng| -> String {
        let segments = ["a", "b", "ab", "", "a%2Fb"];
        (0..rng.usize(1..4)).map(|_| format!("/{}", segments[rng.usize(..5)])).collect()
    };
    let (mut found, mut built) = (0, 0);
    for _ in 0..400 {
        let mut entries: Vec<RouteEntry<usize>> = Vec::new();
        for value in 0..rng.usize(1..25) {
            let listeners = rng
                .bool()
                .then(|| (0..rng.usize(1..3)).map(|_| rng.u16(..3)).collect::<Vec<u16>>());
            let hosts = (0..rng.usize(..3))
                .map(|_| {
                    if rng.bool() { format!("*.{}", name(&mut rng, 1)) } else { name(&mut rng, 1) }
                })
                .collect();
            entries.push(RouteEntry { listeners, hosts, path: path(&mut rng), value });
            if RouteTable::new(entries.clone()).is_err() {
                entries.pop();
            }
        }
        let table = RouteTable::new(entries.clone()).unwrap();
        built += entries.len();
        for _ in 0..200 {
            let (listener, host, path) = (rng.u16(..4), name(&mut rng, 0), path(&mut rng));
            let got = table.lookup(listener, &host, &path).copied();
            let want = naive(&entries, listener, &host, &path);
            assert_eq!(got, want, "{host}{path} on {listener} of {entries:?}");
            found += usize::from(got.is_some());
        }
    }
    assert!(found > 5_000 && built > 2_000, "{found} found in {built} routes proves little");
}
