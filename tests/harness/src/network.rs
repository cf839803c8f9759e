//! Hosts made of network namespaces.
//!
//! Two are joined by a pair of virtual Ethernet devices; more of them by a bridge in a namespace of its own. The
//! library takes them for different hosts: no shared memory between them.

use std::fmt::{self, Display};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Why there are no namespaces here. Tests that need them are skipped, loudly.
#[derive(Clone, Debug)]
pub struct Unavailable(String);

impl Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Network namespaces that reach one another, until it is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    hosts: u32,
    /// Namespaces made so far.
    namespaces: Vec<String>,
}

/// Runs a command to its end.
fn run(words: &[&str]) -> Result<(), Unavailable> {
    let text = words.join(" ");
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|error| Unavailable(format!("{text}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Unavailable(format!("{text}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

impl Network {
    /// `hosts` namespaces, joined. `netem` goes to `tc`, as `delay 5ms loss 1%`, for what each of them sends.
    ///
    /// # Errors
    /// [`Unavailable`] without root, `ip`, or what the kernel needs.
    pub fn join(hosts: u32, netem: Option<&str>) -> Result<Self, Unavailable> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dure-{}-{number}", std::process::id());
        let mut network = Self { name, hosts, namespaces: Vec::new() };
        for host in 0..hosts {
            network.namespace(host)?;
        }
        if hosts == 2 {
            let (a, b) = (network.host(0), network.host(1));
            run(&[
                "ip", "-n", &a, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", &b,
            ])?;
        } else {
            network.bridge()?;
        }
        for host in 0..hosts {
            network.bring_up(host, netem)?;
        }
        Ok(network)
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> u32 {
        self.hosts
    }

    /// The words in front of a command that is to run on a host.
    pub(crate) fn enter(&self, host: u32) -> [String; 4] {
        ["ip", "netns", "exec", &self.host(host)].map(str::to_owned)
    }

    fn host(&self, host: u32) -> String {
        format!("{}-{host}", self.name)
    }

    fn namespace(&mut self, host: u32) -> Result<(), Unavailable> {
        let name = self.host(host);
        run(&["ip", "netns", "add", &name])?;
        self.namespaces.push(name);
        Ok(())
    }

    /// Joins all hosts by a bridge, in the namespace after theirs.
    fn bridge(&mut self) -> Result<(), Unavailable> {
        self.namespace(self.hosts)?;
        let switch = self.host(self.hosts);
        run(&["ip", "-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        run(&["ip", "-n", &switch, "link", "set", "bridge", "up"])?;
        for host in 0..self.hosts {
            let (namespace, port) = (self.host(host), format!("port{host}"));
            let peer = ["type", "veth", "peer", &port, "netns", &switch];
            run(&[&["ip", "-n", &namespace, "link", "add", "eth0"], &peer[..]].concat())?;
            run(&["ip", "-n", &switch, "link", "set", &port, "master", "bridge", "up"])?;
        }
        Ok(())
    }

    fn bring_up(&self, host: u32, netem: Option<&str>) -> Result<(), Unavailable> {
        let (name, address) = (self.host(host), format!("10.77.0.{}/24", host + 1));
        run(&["ip", "-n", &name, "address", "add", &address, "dev", "eth0"])?;
        run(&["ip", "-n", &name, "link", "set", "eth0", "up"])?;
        run(&["ip", "-n", &name, "link", "set", "lo", "up"])?;
        let Some(netem) = netem else { return Ok(()) };
        let rule: Vec<&str> = netem.split_whitespace().collect();
        let words = ["tc", "-n", &name, "qdisc", "add", "dev", "eth0", "root", "netem"];
        run(&[&words[..], &rule].concat())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.namespaces {
            // The devices go with the namespace. A failure leaves a name behind, and no test may fail for that.
            let _ = run(&["ip", "netns", "delete", name]);
        }
    }
}
