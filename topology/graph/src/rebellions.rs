//! What `rbln-stat -g -j` of Rebellions prints, beyond what files say: groups of NPUs, and their serial numbers.

use serde::Deserialize;

use crate::graph::{Graph, Kind};

/// Fields as in pkg/utils/rbln_smi.go of rebellions-sw/rbln-k8s-device-plugin.
#[derive(Debug, Deserialize)]
struct Printed {
    #[serde(rename = "KMD_version")]
    driver: Option<String>,
    devices: Vec<Npu>,
}

#[derive(Debug, Deserialize)]
struct Npu {
    group_id: Option<String>,
    name: Option<String>,
    sid: Option<String>,
    uuid: Option<String>,
    device: Option<String>,
    pci: Pci,
}

#[derive(Debug, Deserialize)]
struct Pci {
    bus_id: String,
}

impl Graph {
    /// Adds to accelerators what `rbln-stat -g -j` printed of them, by their PCI addresses, and files did not say. How many it
    /// spoke of that are here.
    ///
    /// # Errors
    /// The text is not what that program prints.
    pub fn describe_rebellions(&mut self, json: &str) -> Result<usize, serde_json::Error> {
        let Printed { driver, devices } = serde_json::from_str(json)?;
        let mut found = 0;
        for Npu { group_id, name, sid, uuid, device, pci } in devices {
            let here = self.nodes().find(|(_, node)| {
                node.kind == Kind::Accelerator && node.name.eq_ignore_ascii_case(&pci.bus_id)
            });
            let Some((id, _)) = here else { continue };
            let said = [
                // A group is a device of its own, /dev/rsdN; 0 is that of NPUs in none.
                ("rsd_group", group_id.filter(|group| group != "0")),
                ("model", name),
                ("serial", sid),
                ("uuid", uuid),
                ("device_name", device),
                ("driver_version", driver.clone()),
            ];
            let node = self.node(id);
            // What the driver's files say stays.
            let new = said.into_iter().filter(|(key, _)| node.attribute(key).is_none());
            let new: Vec<_> =
                new.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
            self.describe(id, new);
            found += 1;
        }
        Ok(found)
    }
}
