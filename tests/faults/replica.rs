//! The other end of [`crate::backend`]: starts the process, tells it what to do, and kills it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::backend::{self, Behaviour, Order};

/// A backend process. Dropped, it is killed.
pub struct Replica {
    /// What it calls itself.
    pub name: String,
    /// Where it listens, also after a restart.
    pub address: SocketAddr,
    process: Process,
    /// What its forerunners counted, as far as they were asked.
    counted: u64,
}

struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Replica {
    /// Starts one on any free port.
    pub fn start(name: impl Into<String>) -> Replica {
        let name = name.into();
        let (process, port) = Process::start(&name, 0);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Replica { name, address, process, counted: 0 }
    }

    /// Makes it behave so from now on; it does when this returns.
    pub fn behave(&mut self, behaviour: Behaviour) {
        self.process.ask(&Order::Behave(behaviour));
    }

    /// Requests of clients that came. What came to a process after it was last asked
    /// and before it was killed is lost.
    pub fn requests(&mut self) -> u64 {
        self.counted + self.process.ask(&Order::Count).parse::<u64>().unwrap()
    }

    /// Kills it, without any farewell.
    pub fn kill(&mut self) {
        self.counted = self.requests();
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.process = Process::start(&self.name, self.address.port()).0;
    }

    /// Lets it stand still as it is.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }
}

impl Process {
    fn start(name: &str, port: u16) -> (Process, u16) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(backend::VARIABLE, format!("{name} {port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let port = line(&mut answers).parse().unwrap();
        (Process { child, orders, answers }, port)
    }

    fn ask(&mut self, order: &Order) -> String {
        let order = serde_json::to_string(order).unwrap();
        writeln!(self.orders, "{order}").unwrap();
        line(&mut self.answers)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(answers: &mut impl BufRead) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
