//! Where this process runs, and at which addresses others should try to reach it: for those who make connections of their own.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::bootstrap::wire::HostId;
use crate::config::{Config, Interfaces};
use crate::error::{Error, Result};

/// Beginnings of the names of interfaces that lead to containers and virtual machines of this host, and hardly ever to
/// another host: bridges and the host's ends of virtual cables.
const INTERNAL: [&str; 10] =
    ["docker", "virbr", "cni", "veth", "br-", "lxc", "podman", "flannel", "cali", "vnet"];

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    interface: String,
    address: IpAddr,
    up: bool,
    /// Whether a device of the machine is behind it.
    physical: bool,
    /// Whether an RDMA device sends over it, as far as that was looked for.
    rail: bool,
}

/// What addresses are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What ranks tell one another beside the data: it goes over other wires where there are some, so that it gets through
    /// when a rail of RDMA fails.
    Control,
    /// Data over TCP, for which the wires of RDMA devices are as good as any.
    Data,
}

/// How likely an address is to be reachable from another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likelihood {
    Loopback,
    Internal,
    LinkLocal,
    Virtual,
    Physical,
}

impl Candidate {
    fn likelihood(&self) -> Likelihood {
        if self.address.is_loopback() {
            Likelihood::Loopback
        } else if INTERNAL.iter().any(|prefix| self.interface.starts_with(prefix)) {
            Likelihood::Internal
        } else if matches!(self.address, IpAddr::V4(address) if address.is_link_local()) {
            Likelihood::LinkLocal
        } else if self.physical {
            Likelihood::Physical
        } else {
            Likelihood::Virtual
        }
    }
}

/// Addresses of this host, most likely reachable first: up, not of a bridge to containers, with a device behind them;
/// loopback last. Among equals, the purpose decides.
///
/// # Errors
/// `System` when the interfaces cannot be listed, `InvalidArgument` when `DURE_IFNAME` leaves none.
pub(crate) fn addresses(filter: Option<&Interfaces>, purpose: Purpose) -> Result<Vec<IpAddr>> {
    Ok(interfaces(filter, purpose)?.into_iter().map(|(_, address)| address).collect())
}

/// Interfaces that data may go over, as `DURE_IFNAME` leaves them, with their addresses, the most likely one to be reached first. An
/// interface is listed once for each address.
///
/// # Errors
/// `System` when the interfaces cannot be listed, `InvalidArgument` when `DURE_IFNAME` leaves none.
pub fn data(config: &Config) -> Result<Vec<(String, IpAddr)>> {
    interfaces(config.ifname.as_ref(), Purpose::Data)
}

/// The same for what processes tell one another beside the data: interfaces of RDMA devices come after others of their kind.
///
/// # Errors
/// As [`data`].
pub fn control(config: &Config) -> Result<Vec<(String, IpAddr)>> {
    interfaces(config.ifname.as_ref(), Purpose::Control)
}

fn interfaces(filter: Option<&Interfaces>, purpose: Purpose) -> Result<Vec<(String, IpAddr)>> {
    // Looked for where it matters only.
    let rails = if purpose == Purpose::Control { rails() } else { BTreeSet::new() };
    let all = getifaddrs().map_err(|source| Error::system("getifaddrs").because(source))?;
    let candidates = all.filter_map(|entry| {
        let storage = entry.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = || storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        Some(Candidate {
            address: v4.or_else(v6)?,
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            physical: Path::new("/sys/class/net")
                .join(&entry.interface_name)
                .join("device")
                .exists(),
            rail: rails.contains(&entry.interface_name),
            interface: entry.interface_name,
        })
    });
    order(candidates.collect(), filter, purpose)
}

/// Entries of a table of GIDs that are looked at: the first ones are those of the port's own interface.
const GIDS: u32 = 8;

/// Interfaces over which RDMA devices send: each entry of a port's table of GIDs names one
/// (Documentation/ABI/stable/sysfs-class-infiniband, `gid_attrs/ndevs`).
fn rails() -> BTreeSet<String> {
    let entries = |path: &Path| {
        let all = std::fs::read_dir(path).into_iter().flatten().flatten();
        all.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let ports = |device: PathBuf| entries(&device.join("ports"));
    let tables = |port: PathBuf| {
        (0..GIDS).map(move |entry| port.join("gid_attrs/ndevs").join(entry.to_string()))
    };
    let devices = entries(Path::new("/sys/class/infiniband"));
    let files = devices.into_iter().flat_map(ports).flat_map(tables);
    // Reading an entry that is free is an error.
    files.filter_map(|file| Some(std::fs::read_to_string(file).ok()?.trim().to_owned())).collect()
}

fn order(
    mut candidates: Vec<Candidate>,
    filter: Option<&Interfaces>,
    purpose: Purpose,
) -> Result<Vec<(String, IpAddr)>> {
    let mut names: Vec<String> =
        candidates.iter().map(|candidate| candidate.interface.clone()).collect();
    names.dedup();
    candidates.retain(|candidate| filter.is_none_or(|filter| filter.allows(&candidate.interface)));
    if let (Some(filter), true) = (filter, candidates.is_empty()) {
        let what = format!(
            "DURE_IFNAME=\"{filter}\" matches none of this host's interfaces: {}",
            names.join(", ")
        );
        return Err(Error::invalid_argument(what));
    }
    // An IPv6 link-local address means nothing without the interface that it is seen through.
    let scoped = |address: &IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    candidates.retain(|candidate| candidate.up && !scoped(&candidate.address));
    candidates.sort_by_key(|candidate| {
        let avoided = purpose == Purpose::Control && candidate.rail;
        (Reverse(candidate.likelihood()), avoided, candidate.address.is_ipv6())
    });
    for candidate in &candidates {
        let (interface, address, why) =
            (&candidate.interface, candidate.address, candidate.likelihood());
        tracing::debug!(target: "dure::net", interface, %address, ?why, "address, in order of preference");
    }
    Ok(candidates.into_iter().map(|candidate| (candidate.interface, candidate.address)).collect())
}

/// Identity of the host this process runs on.
///
/// # Errors
/// `System` when the kernel does not say.
pub(crate) fn host_id() -> Result<HostId> {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    const NAMESPACE: &str = "/proc/self/ns/net";
    let text = std::fs::read_to_string(BOOT_ID)
        .map_err(|source| Error::system(BOOT_ID).because(source))?;
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    let boot = std::array::from_fn(|i| match digits.get(2 * i..2 * i + 2) {
        Some(pair) => pair[0] << 4 | pair[1],
        None => 0,
    });
    let metadata =
        std::fs::metadata(NAMESPACE).map_err(|source| Error::system(NAMESPACE).because(source))?;
    Ok(HostId { boot, namespace: std::os::unix::fs::MetadataExt::ino(&metadata) })
}

/// Name of this host, for messages.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(interface: &str, address: &str, physical: bool) -> Candidate {
        Candidate {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            up: true,
            physical,
            rail: interface == "eth1",
        }
    }

    fn host() -> Vec<Candidate> {
        vec![
            candidate("lo", "127.0.0.1", false),
            candidate("docker0", "172.17.0.1", false),
            candidate("virbr0", "192.168.122.1", false),
            candidate("wg0", "10.9.0.1", false),
            candidate("eth1", "fd00::5", true),
            candidate("eth1", "fe80::5", true),
            candidate("eth1", "10.0.1.5", true),
            Candidate { up: false, ..candidate("eth2", "10.0.2.5", true) },
            candidate("usb0", "169.254.3.4", true),
        ]
    }

    fn ordered(filter: Option<&str>) -> Result<Vec<String>> {
        let filter = filter.map(|filter| Interfaces::parse(filter).unwrap());
        Ok(order(host(), filter.as_ref(), Purpose::Control)?
            .iter()
            .map(|(_, address)| address.to_string())
            .collect())
    }

    #[test]
    fn physical_first_bridges_late_loopback_last() {
        let expected = [
            "10.0.1.5",
            "fd00::5",
            "10.9.0.1",
            "169.254.3.4",
            "172.17.0.1",
            "192.168.122.1",
            "127.0.0.1",
        ];
        assert_eq!(ordered(None).unwrap(), expected);
    }

    #[test]
    fn what_ranks_tell_one_another_keeps_off_the_rails_among_equals() {
        let mut all = host();
        all.push(candidate("eth3", "10.0.3.5", true));
        let first = |purpose| order(all.clone(), None, purpose).unwrap()[0].1.to_string();
        assert_eq!([first(Purpose::Control), first(Purpose::Data)], ["10.0.3.5", "10.0.1.5"]);
    }

    #[test]
    fn the_filter_decides() {
        assert_eq!(ordered(Some("docker")).unwrap(), ["172.17.0.1"]);
        assert_eq!(ordered(Some("=eth1")).unwrap(), ["10.0.1.5", "fd00::5"]);
        assert!(!ordered(Some("^lo,docker")).unwrap().contains(&"127.0.0.1".to_owned()));
        let error = ordered(Some("ib")).unwrap_err();
        assert!(
            error.what.contains("DURE_IFNAME=\"ib\"") && error.what.contains("docker0, virbr0"),
            "{error}"
        );
    }

    #[test]
    fn this_host_has_an_identity_and_an_address() {
        assert_eq!(host_id().unwrap(), host_id().unwrap());
        assert_ne!(host_id().unwrap().boot, [0; 16]);
        assert!(!addresses(None, Purpose::Data).unwrap().is_empty());
        for known in [data(&Config::default()), control(&Config::default())] {
            assert!(known.unwrap().iter().any(|(name, _)| name == "lo"));
        }
        assert!(!hostname().is_empty());
    }
}
