//! Devices of plug-ins that the settings name.
//!
//! A process has each plug-in and each device once, whatever communicators use it: memory of a device is known by its address
//! to all of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError, RwLock, Weak};

use dure_device::plugin::{Plugin, PluginDevice, Refusal};
use dure_device_abi as abi;

use crate::config::Config;
use crate::error::{Error, Result};

/// Where plug-ins are when the settings name none.
pub const FOLDER: &str = "/usr/lib/dure/devices";

/// The plug-in that is built in, as devices of it are named: NVIDIA's GPUs.
pub const CUDA: &str = "cuda";

/// The first number of a plug-in's device; below are those that a program makes itself.
const FIRST: u16 = 256;

/// What is open in this process.
#[derive(Default)]
struct Open {
    plugins: Vec<Arc<Plugin>>,
    devices: Vec<Known>,
}

/// A device that is, or was, open.
struct Known {
    plugin: PathBuf,
    index: u32,
    device: Weak<PluginDevice>,
}

static OPEN: LazyLock<RwLock<Open>> = LazyLock::new(RwLock::default);

/// Loads the plug-ins that the settings name, or those of [`FOLDER`].
///
/// # Errors
/// `Device`: one is refused, and why.
pub fn plugins(config: &Config) -> Result<Vec<Arc<Plugin>>> {
    let installed = Path::new(FOLDER);
    let installed: Vec<_> = installed.is_dir().then(|| installed.to_owned()).into_iter().collect();
    let named = &config.device_plugins;
    let mut files = Vec::new();
    for path in if named.is_empty() { &installed } else { named } {
        match libraries(path) {
            Ok(found) => files.extend(found),
            Err(_) if named.is_empty() => {}
            Err(error) => {
                let text = format!("DURE_DEVICE_PLUGINS: {} cannot be read", path.display());
                return Err(Error::invalid_argument(text).because(error));
            }
        }
    }
    let mut open = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    files.iter().map(|path| plugin(&mut open, path)).collect()
}

/// The files of a folder that are libraries, in the order of their names; any other path is itself.
fn libraries(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "so") {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

fn plugin(open: &mut Open, path: &Path) -> Result<Arc<Plugin>> {
    if let Some(plugin) = open.plugins.iter().find(|plugin| plugin.path() == path) {
        return Ok(Arc::clone(plugin));
    }
    let loaded = Plugin::load(path).map_err(refused)?;
    open.plugins.push(Arc::clone(&loaded));
    Ok(loaded)
}

fn refused(refusal: Refusal) -> Error {
    Error::device("a plug-in for devices is refused").because(refusal)
}

/// Opens the devices that the settings name.
///
/// # Errors
/// `InvalidArgument` when no plug-in has a device of that name; `Device` as [`plugins`], and when it cannot be opened.
pub fn open(config: &Config) -> Result<Vec<Arc<PluginDevice>>> {
    if config.device.is_empty() {
        return Ok(Vec::new());
    }
    let mut plugins = plugins(config)?;
    plugins.push(cuda()?);
    config.device.iter().map(|name| open_one(&plugins, name)).collect()
}

/// The plug-in that is built in. NVIDIA's driver is opened when it is asked about a device.
///
/// # Errors
/// `Device`, as [`plugins`].
pub fn cuda() -> Result<Arc<Plugin>> {
    dure_cuda::plugin().map_err(refused)
}

/// Why there are no devices of the plug-in that is built in, in a sentence; `None` when there are some. It opens NVIDIA's driver.
pub fn why_no_cuda() -> Option<String> {
    dure_cuda::why_idle()
}

fn open_one(plugins: &[Arc<Plugin>], name: &str) -> Result<Arc<PluginDevice>> {
    let (vendor, index) = name.rsplit_once(':').unwrap_or((name, "0"));
    let plugin = plugins.iter().find(|plugin| plugin.vendor() == vendor);
    let (Some(plugin), Ok(index)) = (plugin, index.parse::<u32>()) else {
        let known: Vec<_> = plugins.iter().map(|plugin| format!("{}:N", plugin.vendor())).collect();
        let text = format!(
            "DURE_DEVICE={name} is no device (allowed: {}; plug-ins are named by DURE_DEVICE_PLUGINS)",
            known.join(", ")
        );
        return Err(Error::invalid_argument(text));
    };
    let mut open = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    let at =
        open.devices.iter().position(|known| known.plugin == plugin.path() && known.index == index);
    if let Some(device) = at.and_then(|at| open.devices[at].device.upgrade()) {
        return Ok(device);
    }
    let at = at.unwrap_or(open.devices.len());
    let number = u16::try_from(at).ok().and_then(|at| FIRST.checked_add(at));
    let number = number
        .ok_or_else(|| Error::invalid_usage("this process has used all numbers of devices"))?;
    let failed = |refusal| Error::device(format!("{name} cannot be opened")).because(refusal);
    let opened = plugin
        .open(index, (format!("{vendor}:{index}"), number), &peers(plugin, index).map_err(failed)?)
        .map_err(failed)?;
    let known = Known { plugin: plugin.path().to_owned(), index, device: Arc::downgrade(&opened) };
    if at < open.devices.len() {
        open.devices[at] = known;
    } else {
        open.devices.push(known);
    }
    Ok(opened)
}

/// The devices that one must know of from the start: as many of the others as it can reach.
fn peers(plugin: &Plugin, index: u32) -> std::result::Result<Vec<u32>, Refusal> {
    let about = plugin.describe(index)?;
    if !about.can(abi::FIXED_PEERS) {
        return Ok(Vec::new());
    }
    let others = (0..plugin.count()?).filter(|other| *other != index);
    Ok(others.take(about.most_peers as usize).collect())
}
