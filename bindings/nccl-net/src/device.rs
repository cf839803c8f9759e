//! The devices that NCCL sees: RDMA devices, each with all its ports; where there is none, network interfaces.

use std::ffi::{CString, c_int};
use std::fs;
use std::net::IpAddr;

use dure::{Config, Error, Result};

use crate::abi::{
    MEMBERS_V9, MEMBERS_V12, Members, PTR_CUDA, PTR_DMABUF, PTR_HOST, Properties, PropertiesV8,
    PropertiesV11, PropertiesV12,
};
use crate::rdma;
use crate::receiver::GROUP;

/// Longest message: what all transports take at once.
pub(crate) const LONGEST: usize = 1 << 30;
/// Connections that a device may have, as far as this plug-in is concerned: memory and descriptors end before.
const CONNECTIONS: c_int = 1 << 16;
/// Mb/s of an interface that does not say, which are virtual ones.
const UNKNOWN_SPEED: c_int = 10_000;
/// Most devices that are joined: so many rails an address of the RDMA transport holds.
const RAILS: usize = 4;

/// What leads out of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// RDMA, over these devices.
    Rdma(Vec<String>),
    /// TCP, at these addresses.
    Tcp(Vec<IpAddr>),
}

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    name: CString,
    /// Its folder in sysfs, when a PCI device is behind it.
    pci_path: Option<CString>,
    guid: u64,
    /// Mb/s.
    speed: c_int,
    port: c_int,
    takes_dma_buf: bool,
    pub(crate) way: Way,
    /// Its own number, or those of the devices that it is made of.
    members: Vec<c_int>,
}

impl Device {
    pub(crate) fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// One line for the log.
    pub(crate) fn describe(&self) -> String {
        let over = if matches!(self.way, Way::Rdma(_)) { "rdma" } else { "tcp" };
        format!("{} ({over}, {} Mb/s)", self.name(), self.speed)
    }

    /// Memory of GPUs goes over RDMA, by dma-buf. Over several NICs a flush would have to reach each of them, which it does not.
    pub(crate) fn reaches_gpus(&self) -> bool {
        matches!(&self.way, Way::Rdma(names) if names.len() == 1) && self.takes_dma_buf
    }

    fn properties<const N: usize>(&self) -> Properties<N> {
        let gpu = if self.reaches_gpus() { PTR_CUDA | PTR_DMABUF } else { 0 };
        Properties {
            name: self.name.as_ptr(),
            pci_path: self.pci_path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr()),
            guid: self.guid,
            ptr_support: PTR_HOST | gpu,
            reg_is_global: 0,
            force_flush: 0,
            speed: self.speed,
            port: self.port,
            latency: 0.0,
            max_comms: CONNECTIONS,
            max_recvs: c_int::try_from(GROUP).unwrap_or(1),
            device_type: 0,
            device_version: 0,
            members: Members::new(&self.members),
            max_p2p_bytes: LONGEST,
            max_coll_bytes: LONGEST,
        }
    }

    pub(crate) fn v8(&self) -> PropertiesV8 {
        PropertiesV8::from(&self.v9())
    }

    pub(crate) fn v9(&self) -> Properties<MEMBERS_V9> {
        self.properties()
    }

    pub(crate) fn v11(&self) -> PropertiesV11 {
        self.v9().into()
    }

    pub(crate) fn v12(&self) -> PropertiesV12 {
        self.properties::<MEMBERS_V12>().into()
    }

    /// One device made of several. Connections over RDMA use all of them, and go on over those that are left when one fails; over
    /// TCP they use the first address that answers.
    ///
    /// # Errors
    /// `InvalidUsage` when they cannot be one.
    pub(crate) fn join(members: &[(c_int, &'static Self)]) -> Result<Self> {
        let names: Vec<String> = members.iter().map(|(_, member)| member.name()).collect();
        let refuse = |what: &str| {
            Err(Error::invalid_usage(format!("{} as one device: {what}", names.join(" and "))))
        };
        let (mut rails, mut addresses) = (Vec::new(), Vec::new());
        for (_, member) in members {
            if member.members.len() > 1 {
                return refuse("a member that has members");
            }
            match &member.way {
                Way::Rdma(names) => rails.extend(names.iter().cloned()),
                Way::Tcp(more) => addresses.extend(more),
            }
        }
        let way = if addresses.is_empty() { Way::Rdma(rails) } else { Way::Tcp(addresses) };
        let (Some((_, first)), true) = (members.first(), members.len() <= RAILS) else {
            return refuse("it may have 1 to 4 members");
        };
        Ok(Self {
            name: c_string(&names.join("+")),
            pci_path: first.pci_path.clone(),
            guid: first.guid,
            speed: members.iter().map(|(_, member)| member.speed).fold(0, c_int::saturating_add),
            port: first.port,
            takes_dma_buf: members.iter().all(|(_, member)| member.takes_dma_buf),
            way,
            members: members.iter().map(|(number, _)| *number).collect(),
        })
    }
}

/// The devices that the settings leave.
///
/// # Errors
/// `InvalidArgument` when they leave none; `System` when interfaces cannot be listed.
pub(crate) fn find(config: &Config) -> Result<Vec<Device>> {
    let allows = |name| config.transport.allows(name);
    let (found, why) = if allows("rdma") { rdma::devices(config) } else { Default::default() };
    if !found.is_empty() {
        return Ok((0..).zip(found).map(|(number, found)| rdma_device(number, found)).collect());
    }
    if !allows("tcp") {
        let why = if why.is_empty() { "no device".to_owned() } else { why.join("; ") };
        return Err(Error::invalid_argument(format!(
            "DURE_TRANSPORT={} leaves nothing: RDMA has {why} (this plug-in knows rdma and tcp)",
            config.transport
        )));
    }
    // In the order of their first address, which is that of preference.
    let mut interfaces: Vec<(String, Vec<IpAddr>)> = Vec::new();
    for (name, address) in dure::addresses::data(config)? {
        match interfaces.iter_mut().find(|(known, _)| *known == name) {
            Some((_, addresses)) => addresses.push(address),
            None => interfaces.push((name, vec![address])),
        }
    }
    // Loopback leads to this host only.
    if interfaces.iter().any(|(_, addresses)| !addresses[0].is_loopback()) {
        interfaces.retain(|(_, addresses)| !addresses[0].is_loopback());
    }
    Ok((0..).zip(interfaces).map(|(number, found)| tcp_device(number, found)).collect())
}

fn rdma_device(number: c_int, found: rdma::Found) -> Device {
    let folder = format!("/sys/class/infiniband/{}", found.name);
    let guid = fs::read_to_string(format!("{folder}/node_guid")).unwrap_or_default();
    let guid = u64::from_str_radix(&guid.trim().replace(':', ""), 16).unwrap_or(0);
    Device {
        name: c_string(&found.name),
        pci_path: pci_path(&folder),
        // Devices of the same number would share a port, as NCCL sees it.
        guid: if guid == 0 { number.unsigned_abs().into() } else { guid },
        speed: c_int::try_from(found.speed).unwrap_or(c_int::MAX),
        port: found.port.into(),
        takes_dma_buf: found.takes_dma_buf,
        way: Way::Rdma(vec![found.name]),
        members: vec![number],
    }
}

fn tcp_device(number: c_int, (name, addresses): (String, Vec<IpAddr>)) -> Device {
    let folder = format!("/sys/class/net/{name}");
    let speed = fs::read_to_string(format!("{folder}/speed")).ok();
    let speed = speed.and_then(|text| text.trim().parse().ok()).filter(|speed| *speed > 0);
    Device {
        name: c_string(&name),
        pci_path: pci_path(&folder),
        guid: number.unsigned_abs().into(),
        speed: speed.unwrap_or(UNKNOWN_SPEED),
        port: 0,
        takes_dma_buf: false,
        way: Way::Tcp(addresses),
        members: vec![number],
    }
}

/// The folder of the PCI device that a folder of a class names.
fn pci_path(folder: &str) -> Option<CString> {
    let path = fs::canonicalize(format!("{folder}/device")).ok()?;
    let path = path.to_str()?;
    path.contains("/pci").then(|| c_string(path))
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("the NUL bytes were taken out")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: c_int, name: &str, way: Way) -> &'static Device {
        Box::leak(Box::new(Device {
            name: c_string(name),
            pci_path: None,
            guid: 7,
            speed: 100_000,
            port: 1,
            takes_dma_buf: true,
            way,
            members: vec![number],
        }))
    }

    fn rail(number: c_int, name: &str) -> (c_int, &'static Device) {
        (number, device(number, name, Way::Rdma(vec![name.to_owned()])))
    }

    #[test]
    fn joined_devices_are_faster_and_do_not_reach_gpus() {
        let members = [rail(0, "mlx5_0"), rail(3, "mlx5_3")];
        let joined = Device::join(&members).unwrap();
        assert_eq!(joined.describe(), "mlx5_0+mlx5_3 (rdma, 200000 Mb/s)");
        assert_eq!(joined.way, Way::Rdma(vec!["mlx5_0".to_owned(), "mlx5_3".to_owned()]));
        let properties = joined.v12();
        assert_eq!(properties.base.ptr_support, PTR_HOST);
        assert_eq!((properties.base.members.count, properties.base.members.devices[1]), (2, 3));
        assert_eq!(members[0].1.v9().ptr_support, PTR_HOST | PTR_CUDA | PTR_DMABUF);
    }

    #[test]
    fn joined_interfaces_have_the_addresses_of_all() {
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let interface = |number: u8| {
            let name = format!("eth{number}");
            (number.into(), device(number.into(), &name, Way::Tcp(vec![address(number)])))
        };
        let joined = Device::join(&[interface(0), interface(1)]).unwrap();
        assert_eq!(joined.way, Way::Tcp(vec![address(0), address(1)]));
        assert_eq!(joined.name(), "eth0+eth1");
    }

    #[test]
    fn what_cannot_be_one_device_is_refused() {
        let joined = Device::join(&[rail(0, "a"), rail(1, "b")]).unwrap();
        let joined = &*Box::leak(Box::new(joined));
        for members in [&[][..], &[rail(0, "a"); 5], &[rail(0, "a"), (2, joined)]] {
            assert!(Device::join(members).is_err());
        }
    }

    #[test]
    fn this_host_has_devices_of_tcp() {
        let transport = dure::config::Transports::parse("tcp").unwrap();
        let found = find(&Config::default().transport(transport)).unwrap();
        assert!(found.iter().all(|device| matches!(device.way, Way::Tcp(_))) && !found.is_empty());
        let nothing = dure::config::Transports::parse("pool").unwrap();
        let error = find(&Config::default().transport(nothing)).unwrap_err().to_string();
        assert!(error.contains("DURE_TRANSPORT=pool") && error.contains("rdma and tcp"), "{error}");
    }
}
