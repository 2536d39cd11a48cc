use std::net::TcpStream;

use super::*;

fn loopback(port: u16) -> BindAddress {
    BindAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn key(address: &BindAddress) -> SocketKey {
    SocketKey::new("http", 0, address)
}

fn open(sockets: &mut Sockets, address: &BindAddress) -> Result<(Opening, Bound), BindError> {
    let mut opening = Opening::default();
    sockets.open(&key(address), &mut opening)?;
    let bound = sockets.find(&opening, &key(address)).unwrap();
    Ok((opening, bound))
}

#[test]
fn two_listeners_that_leave_the_port_to_the_kernel_get_two() {
    let mut sockets = Sockets::new(1);
    let mut opening = Opening::default();
    let ports = ["http", "https"].map(|listener| {
        let key = SocketKey::new(listener, 0, &loopback(0));
        sockets.open(&key, &mut opening).unwrap();
        sockets.find(&opening, &key).unwrap().port
    });
    assert_ne!(ports[0], ports[1]);
}

#[test]
fn port_0_becomes_one_real_port_for_all_workers() {
    let mut sockets = Sockets::new(3);
    let (opening, bound) = open(&mut sockets, &loopback(0)).unwrap();
    assert_ne!(bound.port, 0);
    let ports: Vec<u16> = opening.sockets[0]
        .1
        .iter()
        .map(|socket| match &socket.accepting {
            ListeningSocket::Tcp(tcp) => tcp.local_addr().unwrap().port(),
            ListeningSocket::Unix(_) => 0,
        })
        .collect();
    assert_eq!(ports, [bound.port; 3]);
    TcpStream::connect(("127.0.0.1", bound.port)).unwrap();
}

#[test]
fn a_second_instance_is_an_error_in_words() {
    let mut first = Sockets::new(2);
    let (_opening, bound) = open(&mut first, &loopback(0)).unwrap();
    let error = open(&mut Sockets::new(2), &loopback(bound.port)).unwrap_err();
    let words = format!(
        "127.0.0.1:{} is already in use: is another tidegate (or another server) running there?",
        bound.port
    );
    assert!(error.to_string().starts_with(&words), "{error}");
}

#[test]
fn an_address_that_stays_keeps_its_sockets() {
    let mut sockets = Sockets::new(1);
    let (opening, bound) = open(&mut sockets, &loopback(0)).unwrap();
    let wanted = BTreeSet::from([key(&loopback(0))]);
    assert_eq!(sockets.commit(opening, &wanted).listen.len(), 1);
    let (again, same) = open(&mut sockets, &loopback(0)).unwrap();
    assert_eq!(same, bound);
    let changes = sockets.commit(again, &wanted);
    assert!(changes.listen.is_empty());
    assert!(changes.stop.is_empty());
    let changes = sockets.commit(Opening::default(), &BTreeSet::new());
    assert_eq!(changes.stop, [bound.id]);
}

#[test]
fn what_we_hold_ourselves_is_nobody_else() {
    let mut sockets = Sockets::new(1);
    let everywhere = BindAddress::Tcp(SocketAddr::from(([0, 0, 0, 0], 0)));
    let (opening, bound) = open(&mut sockets, &everywhere).unwrap();
    let _held = sockets.commit(opening, &BTreeSet::from([key(&everywhere)]));
    open(&mut sockets, &loopback(bound.port)).unwrap();
}

#[test]
fn an_address_can_come_back_before_the_workers_have_closed_it() {
    let mut sockets = Sockets::new(1);
    let (opening, bound) = open(&mut sockets, &loopback(0)).unwrap();
    let _held = sockets.commit(opening, &BTreeSet::new());
    open(&mut sockets, &loopback(bound.port)).unwrap();
}

#[test]
fn a_dead_unix_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("front.sock");
    let address = BindAddress::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    let (opening, _) = open(&mut Sockets::new(2), &address).unwrap();
    UnixStream::connect(&path).unwrap();
    let error = open(&mut Sockets::new(2), &address).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    drop(opening);
    assert!(!path.exists());
}

#[test]
fn a_file_is_not_taken_for_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let error = open(&mut Sockets::new(1), &BindAddress::Unix(path.clone())).unwrap_err();
    assert!(matches!(error, BindError::NotASocket(_)), "{error}");
    assert!(path.exists());
}
