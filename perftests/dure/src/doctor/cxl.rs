//! Memory of CXL devices, and what is missing until a pool can be made of it: drivers, a region, a DAX device that programs
//! map, the right to open it, instructions that flush lines.
//!
//! Linux, Documentation/ABI/testing/sysfs-bus-cxl and sysfs-bus-dax, Documentation/driver-api/cxl; the drivers' names are
//! those of drivers/cxl and drivers/dax.

use super::{Finding, Host, Level};
use crate::size;

const NAME: &str = "CXL";

/// A driver as a bus lists it, whether it is a module or built in; and the module that has it.
type Driver = (&'static str, &'static str);

/// Without these no device is found.
const OF_DEVICES: [Driver; 4] = [
    ("platform/drivers/cxl_acpi", "cxl_acpi"),
    ("pci/drivers/cxl_pci", "cxl_pci"),
    ("cxl/drivers/cxl_port", "cxl_port"),
    ("cxl/drivers/cxl_mem", "cxl_mem"),
];
/// Without these a region is mapped by no program.
const OF_DAX: [Driver; 2] =
    [("cxl/drivers/cxl_dax_region", "dax_cxl"), ("dax/drivers/device_dax", "device_dax")];

pub(super) fn cxl(host: &Host) -> Finding {
    let dax = host.names("dev", &["dax"]);
    if let Some(finding) = nodes(host, &dax) {
        return finding;
    }
    let devices = host.names("sys/bus/cxl/devices", &["mem"]);
    let known = host.names("sys/bus/dax/devices", &["dax"]);
    let regions = host.names("sys/bus/cxl/devices", &["region"]);
    let unmapped = |state: String, remedy: String| {
        Finding::new(NAME, Level::Limited, state, "the memory cannot be mapped").remedy(remedy)
    };
    if !known.is_empty() {
        return without_node(host, &known, unmapped);
    }
    if !regions.is_empty() {
        let state = format!("{} without a DAX device", regions.join(", "));
        let remedy = load(host, &OF_DAX).unwrap_or_else(|| {
            "see `cxl list -R` and the kernel's messages: the region is not committed".to_owned()
        });
        return unmapped(state, remedy);
    }
    if !devices.is_empty() {
        let state = format!("{} without a region", devices.join(", "));
        let remedy = format!(
            "cxl create-region -t ram -d DECODER -m {} (decoders: cxl list -D), then daxctl reconfigure-device -m devdax",
            devices.join(" ")
        );
        return unmapped(state, remedy);
    }
    absent(host)
}

/// DAX devices that have a node, which is what programs open.
fn nodes(host: &Host, dax: &[String]) -> Option<Finding> {
    let (open, closed): (Vec<_>, Vec<_>) = dax
        .iter()
        .map(|name| format!("dev/{name}"))
        .partition::<Vec<_>, _>(|path| host.may_write(path));
    let list = |paths: &[String]| {
        let named = paths.iter().map(|path| {
            let name = path.trim_start_matches("dev/");
            match host.number(&format!("sys/bus/dax/devices/{name}/size")) {
                Some(bytes) => format!("/{path} ({})", size::display(bytes)),
                None => format!("/{path}"),
            }
        });
        named.collect::<Vec<_>>().join(", ")
    };
    if open.is_empty() {
        let first = closed.first()?;
        let state = format!("{}, not to be opened", list(&closed));
        return Some(
            Finding::new(NAME, Level::Limited, state, "this user cannot map the memory").remedy(
                format!("give the device to the user: chown USER /{first}, or a rule of udev"),
            ),
        );
    }
    let first = &open[0];
    Some(match flushes(host) {
        Some(Ok(instructions)) => Finding::new(
            NAME,
            Level::Ok,
            list(&open),
            format!(
                "a pool between hosts (dure pool create /{first}, DURE_POOL=/{first}), flushed by {instructions}"
            ),
        ),
        Some(Err(())) => Finding::new(
            NAME,
            Level::Limited,
            list(&open),
            "programs cannot flush lines on this processor: a pool works where caches are coherent",
        )
        .remedy("DURE_POOL_COHERENCE=hardware, if the pool keeps caches coherent"),
        None => {
            let text = format!("a pool (dure pool create /{first}, DURE_POOL=/{first})");
            Finding::new(NAME, Level::Ok, list(&open), text)
        }
    })
}

/// DAX devices that the kernel knows and no program can open: it has no driver for them, or has taken them as its own memory.
fn without_node(
    host: &Host,
    known: &[String],
    unmapped: impl Fn(String, String) -> Finding,
) -> Finding {
    let taken = |name: &&String| host.exists(&format!("sys/bus/dax/drivers/kmem/{name}"));
    if let Some(name) = known.iter().find(taken) {
        let state = format!("{name} is memory of the system");
        let remedy = format!(
            "daxctl reconfigure-device -m devdax -f {name} (it takes the memory away from programs that use it)"
        );
        return unmapped(state, remedy);
    }
    let state = format!("{} without a device node", known.join(", "));
    let remedy = load(host, &OF_DAX).unwrap_or_else(|| {
        format!("daxctl enable-device {}; in a container: --device /dev/{}", known[0], known[0])
    });
    unmapped(state, remedy)
}

/// No driver has found memory: the devices are not there, or the drivers are not.
fn absent(host: &Host) -> Finding {
    // A CXL memory device with the standard's interface: class 05h, subclass 02h (CXL 3.1, 8.1.12.1).
    let is_memory = |name: &String| {
        let class = host.text(&format!("sys/bus/pci/devices/{name}/class"));
        class.is_some_and(|class| class.starts_with("0x0502"))
    };
    let slots: Vec<_> =
        host.names("sys/bus/pci/devices", &[""]).into_iter().filter(is_memory).collect();
    if slots.is_empty() {
        return Finding::new(NAME, Level::Absent, "none", "no pool of memory is shared between hosts")
            .remedy("a pool needs CXL memory; processes of one host can try it on a file: dure pool create /dev/shm/NAME --size 1G");
    }
    let state = format!("{} without a driver", slots.join(", "));
    let remedy = load(host, &OF_DEVICES).unwrap_or_else(|| {
        "see the kernel's messages of cxl_pci, and whether the firmware has a CEDT table".to_owned()
    });
    Finding::new(NAME, Level::Limited, state, "the memory cannot be used").remedy(remedy)
}

/// The call that loads those drivers that are not there.
fn load(host: &Host, drivers: &[Driver]) -> Option<String> {
    let is_missing = |(path, _): &&Driver| !host.exists(&format!("sys/bus/{path}"));
    let missing: Vec<_> = drivers.iter().filter(is_missing).map(|(_, module)| *module).collect();
    (!missing.is_empty()).then(|| format!("modprobe -a {}", missing.join(" ")))
}

/// The instructions by which programs bring lines to memory here; `Err` when there are none, `None` when nobody says what
/// the processor has.
fn flushes(host: &Host) -> Option<Result<String, ()>> {
    let field = |key| host.field("proc/cpuinfo", key);
    if field("Features").is_some() {
        // Linux lets programs of every 64-bit Arm processor clean lines.
        return Some(Ok("dc cvac".to_owned()));
    }
    let flags = field("flags").or_else(|| field("isa"))?;
    let has = |wanted: &str| flags.split_whitespace().any(|flag| flag == wanted);
    let flush = ["clwb", "clflushopt", "clflush"].into_iter().find(|name| has(name));
    Some(flush.ok_or(()).map(|flush| {
        if has("movdir64b") { format!("movdir64b, {flush}") } else { flush.to_owned() }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    const FLAGS: (&str, &str) = ("proc/cpuinfo", "flags\t: sse2 clflush clflushopt clwb movdir64b");
    const SIZE: (&str, &str) = ("sys/bus/dax/devices/dax0.0/size", "137438953472");

    fn found(files: &[(&str, &str)]) -> Finding {
        cxl(&Tree::new(files).host())
    }

    fn remedy(files: &[(&str, &str)]) -> String {
        let finding = found(files);
        assert_eq!(finding.level, Level::Limited, "{}", finding.state);
        finding.remedy.unwrap()
    }

    #[test]
    fn a_device_that_can_be_opened_is_a_pool() {
        let finding = found(&[("dev/dax0.0", ""), SIZE, FLAGS]);
        assert_eq!((finding.level, &*finding.state), (Level::Ok, "/dev/dax0.0 (128 GiB)"));
        assert!(finding.consequence.contains("movdir64b, clwb"), "{}", finding.consequence);
        assert!(finding.consequence.contains("dure pool create /dev/dax0.0,"));
        let finding = found(&[("dev/dax0.0", ""), ("proc/cpuinfo", "isa\t: rv64imafdc")]);
        assert!(finding.consequence.contains("coherent"), "{}", finding.consequence);
        let finding = found(&[("dev/dax0.0", ""), ("proc/cpuinfo", "Features\t: fp asimd")]);
        assert!(finding.consequence.contains("dc cvac"), "{}", finding.consequence);
        assert_eq!(found(&[("dev/dax0.0", "")]).level, Level::Ok);
    }

    #[test]
    fn a_device_that_others_own_needs_a_right() {
        // A folder cannot be opened to write, by whomever.
        let files = [("dev/dax0.0/x", ""), SIZE, FLAGS];
        assert!(remedy(&files).contains("chown USER /dev/dax0.0"));
    }

    #[test]
    fn what_is_missing_is_named_step_by_step() {
        let memory = ("sys/bus/pci/devices/0000:38:00.0/class", "0x050210");
        let pci = ("sys/bus/pci/drivers/cxl_pci/bind", "");
        let ports = ("sys/bus/cxl/drivers/cxl_port/bind", "");
        assert_eq!(found(&[]).level, Level::Absent);
        assert!(found(&[]).remedy.unwrap().contains("dure pool create /dev/shm"));
        assert_eq!(remedy(&[memory]), "modprobe -a cxl_acpi cxl_pci cxl_port cxl_mem");
        assert_eq!(remedy(&[memory, pci, ports]), "modprobe -a cxl_acpi cxl_mem");
        let acpi = ("sys/bus/platform/drivers/cxl_acpi/bind", "");
        let mem = ("sys/bus/cxl/drivers/cxl_mem/bind", "");
        assert!(remedy(&[memory, pci, ports, acpi, mem]).contains("CEDT"));

        let found0 = ("sys/bus/cxl/devices/mem0/serial", "0");
        let found1 = ("sys/bus/cxl/devices/mem1/serial", "1");
        assert!(
            remedy(&[memory, found0, found1])
                .contains("create-region -t ram -d DECODER -m mem0 mem1")
        );

        let region = ("sys/bus/cxl/devices/region0/size", "0x2000000000");
        assert_eq!(remedy(&[found0, region]), "modprobe -a dax_cxl device_dax");
        let joins = ("sys/bus/cxl/drivers/cxl_dax_region/bind", "");
        let maps = ("sys/bus/dax/drivers/device_dax/bind", "");
        assert!(remedy(&[found0, region, joins, maps]).contains("cxl list -R"));

        assert_eq!(remedy(&[found0, region, SIZE, joins]), "modprobe -a device_dax");
        assert!(remedy(&[found0, region, SIZE, joins, maps]).contains("enable-device dax0.0"));
        let taken = ("sys/bus/dax/drivers/kmem/dax0.0", "");
        let system = remedy(&[found0, region, SIZE, joins, maps, taken]);
        assert!(system.contains("reconfigure-device -m devdax -f dax0.0"), "{system}");
    }
}
