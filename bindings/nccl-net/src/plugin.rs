//! What a process has one of: settings, devices, the port that senders dial, and the connections that are being made.

#![expect(
    clippy::disallowed_types,
    reason = "locked when connections are made, not on the data path"
)]

use std::collections::HashMap;
use std::ffi::c_int;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dure::{Config, Error, Result};
use dure_tcp::{Port, PortOptions};
use dure_transport::proof::Key;
use dure_transport::{Peer, Transport};

use crate::device::{self, Device, Way};
use crate::log;
use crate::meeting::Meeting;

/// What a process has one of.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) config: Config,
    port: Arc<Port>,
    /// Those of the host, then joined ones. They stay as long as the process: NCCL keeps their names.
    devices: Mutex<Vec<&'static Device>>,
    /// How many of them are the host's.
    found: usize,
    /// Senders that are not connected, by the secrets of their handles: NCCL calls `connect` again and again.
    dialling: Mutex<HashMap<[u8; 32], Meeting>>,
}

/// The plug-in of this process, made when it is first asked for.
///
/// # Errors
/// What kept it from being made, each time.
pub(crate) fn plugin() -> Result<&'static Plugin> {
    static PLUGIN: OnceLock<Result<Plugin>> = OnceLock::new();
    PLUGIN.get_or_init(Plugin::new).as_ref().map_err(Clone::clone)
}

/// It is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plugin {
    fn new() -> Result<Self> {
        let config = Config::from_env()?;
        log::forward(&config.log)?;
        let found = device::find(&config)?;
        let ports = config.port_range.map(|range| range.first..=range.last);
        let port = Port::bind(PortOptions { ports, ..PortOptions::default() })
            .map_err(|error| Error::system("no port to listen on").because(error))?;
        let devices: Vec<_> =
            found.into_iter().map(|device| &*Box::leak(Box::new(device))).collect();
        let found = devices.len();
        Ok(Self { config, port, devices: Mutex::new(devices), found, dialling: Mutex::default() })
    }

    /// Joins nothing any more: NCCL begins anew, and expects the devices of the host. Connections keep what they have.
    pub(crate) fn begin_anew(&self) {
        lock(&self.devices).truncate(self.found);
    }

    /// How many devices there are.
    pub(crate) fn count(&self) -> c_int {
        c_int::try_from(lock(&self.devices).len()).unwrap_or(c_int::MAX)
    }

    /// A device by its number.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn device(&self, number: c_int) -> Result<&'static Device> {
        let devices = lock(&self.devices);
        let device = usize::try_from(number).ok().and_then(|at| devices.get(at).copied());
        device.ok_or_else(|| {
            let last = devices.len().saturating_sub(1);
            Error::invalid_argument(format!(
                "dev: there is no device {number} (allowed: 0 to {last})"
            ))
        })
    }

    /// Makes one device of several; its number.
    ///
    /// # Errors
    /// As [`Plugin::device`] and [`Device::join`].
    pub(crate) fn join(&self, members: &[c_int]) -> Result<c_int> {
        let members: Vec<_> = members
            .iter()
            .map(|number| Ok((*number, self.device(*number)?)))
            .collect::<Result<_>>()?;
        let joined = Box::leak(Box::new(Device::join(&members)?));
        let mut devices = lock(&self.devices);
        devices.push(joined);
        log::info(&format!("device {} is {}", devices.len() - 1, joined.describe()));
        Ok(c_int::try_from(devices.len() - 1).unwrap_or(c_int::MAX))
    }

    /// One line for the log.
    pub(crate) fn describe(&self) -> String {
        let devices = lock(&self.devices);
        let list: Vec<_> = devices
            .iter()
            .enumerate()
            .map(|(at, device)| format!("[{at}] {}", device.describe()))
            .collect();
        format!("dure {}: {}", env!("CARGO_PKG_VERSION"), list.join(", "))
    }

    /// Opens a TCP transport of one flow, which is found at these addresses.
    ///
    /// # Errors
    /// `System`.
    pub(crate) fn tcp(
        &self,
        me: Peer,
        id: [u8; 16],
        key: [u8; 32],
        addresses: &[IpAddr],
    ) -> Result<Box<dyn Transport>> {
        let number = self.port.number();
        let options = dure_tcp::Options {
            me,
            id,
            key: Key::new(key),
            port: Arc::clone(&self.port),
            addresses: addresses.iter().map(|ip| SocketAddr::new(*ip, number)).collect(),
            flows: 1,
            driver: self.config.tcp_driver,
        };
        dure_tcp::open(options)
            .map_err(|error| Error::system("the tcp transport cannot be opened").because(error))
    }

    /// Where a device's peers find this process: for RDMA beside its wires, where there are others.
    ///
    /// # Errors
    /// `System`.
    pub(crate) fn addresses(&self, device: &Device) -> Result<Vec<IpAddr>> {
        match &device.way {
            Way::Tcp(addresses) => Ok(addresses.clone()),
            Way::Rdma(_) => {
                let all = dure::addresses::control(&self.config)?;
                Ok(all.into_iter().map(|(_, address)| address).collect())
            }
        }
    }

    /// A connection that a sender has begun to make.
    pub(crate) fn take_dialling(&self, key: &[u8; 32]) -> Option<Meeting> {
        lock(&self.dialling).remove(key)
    }

    /// Keeps it for the next call of `connect`.
    pub(crate) fn keep_dialling(&self, key: [u8; 32], meeting: Meeting) {
        lock(&self.dialling).insert(key, meeting);
    }
}

/// Bytes that nobody can guess.
///
/// # Errors
/// `System`.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; N];
    let read = File::open(SOURCE).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Error::system(SOURCE).because(error))?;
    Ok(bytes)
}
