//! Ports that are taken, file descriptors that run out, memory that is kept, backends that are killed.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Program, run};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::pool_of;
use crate::support::wire::Wire;
use crate::support::{eventually, eventually_within};

#[tokio::test]
async fn a_second_instance_on_the_same_port_is_an_error_in_words() {
    let backend = Backend::named("one").await;
    let program = Program::start("", &pool_of(&[&backend])).await;
    let address = program.http().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("second.toml");
    let text = format!(
        "[admin]\nbind = \"unix:second.sock\"\n[listeners.http]\nbind = \"{address}\"\n{}",
        pool_of(&[&backend])
    );
    std::fs::write(&path, text).unwrap();
    let second = move || run(&["run", "-c", path.to_str().unwrap()]);
    let output = tokio::task::spawn_blocking(second).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("{address} is already in use")), "{told}");
    for _ in 0..10 {
        assert_eq!(Wire::connect(address).await.get("/").await.status(), 200);
    }
}

#[tokio::test]
async fn file_descriptors_that_run_out_are_survived_and_told_once_a_second() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/held" => Reply::ok("held").after(Step::Hold),
        _ => Reply::ok("one"),
    })
    .await;
    let mut limited = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_tidegate");
    limited.args(["-c", "ulimit -n 96; exec \"$@\"", "sh", program, "run"]);
    let mut program =
        Program::start_by(limited, "max_connections = 1000", &pool_of(&[&backend])).await;
    let address = program.http().await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        // Busy, and not to be asked to leave.
        let mut client = Wire::connect(address).await;
        client.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n").await;
        clients.push(client);
    }
    let complaints = || program.log().matches("accepting pauses").count();
    eventually("it is told", async || complaints() > 0).await;
    let (told, began, span) = (complaints(), Instant::now(), Duration::from_secs(2));
    eventually_within(span, "it is told again", async || complaints() > told).await;
    // From both workers together; the one more is for where the span begins.
    eventually("more is told", async || complaints() > told + 3).await;
    assert!(began.elapsed() > span, "more than 3 lines in {span:?}");

    drop(clients);
    // It may come before their files are free.
    let served = async || Wire::connect(address).await.get("/").await.text() == "one";
    eventually("it serves again", served).await;
    assert!(program.runs());
    // What we lack says nothing about the backend.
    assert!(!program.log().contains("is unhealthy"), "{}", program.log());
}

#[tokio::test]
async fn idle_connections_to_the_admin_api_keep_no_client_out() {
    let backend = Backend::named("one").await;
    let mut limited = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_tidegate");
    limited.args(["-c", "ulimit -n 128; exec \"$@\"", "sh", program, "run"]);
    let program = Program::start_by(limited, "", &pool_of(&[&backend])).await;
    let address = program.http().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        // Beyond what it accepts and what the system queues they are refused.
        idle.extend(program.connect_to_admin().await);
        assert_eq!(Wire::connect(address).await.get("/").await.text(), "one");
    }
    assert!(!program.log().contains("accepting pauses"), "{}", program.log());
}

/// glibc's allocator would keep what the TLS library needed at the busiest moment.
#[cfg(target_env = "gnu")]
#[tokio::test]
async fn what_is_written_in_c_takes_its_memory_from_the_same_allocator() {
    let backend = Backend::named("one").await;
    let program = Program::start("", &pool_of(&[&backend])).await;
    assert_eq!(Wire::connect(program.http().await).await.get("/").await.status(), 200);
    let mappings = program.mappings();
    assert!(!mappings.contains("[heap]"), "{mappings}");
}

#[tokio::test]
async fn no_get_fails_while_a_backend_process_is_killed() {
    // Each backend is a real process: a proxy that answers everything with a redirect.
    let redirect = "[[routes]]\nredirect = { path = \"/elsewhere\", status = 302 }\n";
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Program::start("", redirect).await);
    }
    let mut addresses = Vec::new();
    for backend in &backends {
        addresses.push(backend.http().await);
    }
    let members: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let pool = format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = [{}]\n\
         [pools.app.health]\npath = \"/\"\ninterval = \"100ms\"\n",
        members.join(", ")
    );
    let program = Program::start("", &pool).await;
    for address in &addresses {
        eventually("well", async || program.state_of(*address).await == "healthy").await;
    }
    let address = program.http().await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..32)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                let mut client = Wire::connect(address).await;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").await.status(), 302);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more = async |count: usize| {
        let goal = served.load(Ordering::SeqCst) + count;
        eventually("more were served", async || served.load(Ordering::SeqCst) >= goal).await;
    };
    more(500).await;
    backends[1].signal(Signal::KILL);
    eventually("judged", async || program.state_of(addresses[1]).await == "unhealthy").await;
    more(500).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("no GET failed");
    }
}
