//! The host: what it is, and what this process may use of it.

use super::list;
use super::tree::Tree;
use crate::graph::{Graph, Kind, Node, NodeId};

/// Makers of virtual machines as DMI names them, and what they are called.
const HYPERVISORS: [(&str, &str); 9] = [
    ("QEMU", "QEMU"),
    ("KVM", "KVM"),
    ("Amazon EC2", "Amazon EC2"),
    ("Google", "Google Compute Engine"),
    ("VMware", "VMware"),
    ("innotek", "VirtualBox"),
    ("Xen", "Xen"),
    ("Parallels", "Parallels"),
    ("Alibaba", "Alibaba Cloud"),
];

pub(super) fn add(tree: &Tree, graph: &mut Graph) -> NodeId {
    let name = tree.text("proc/sys/kernel/hostname").unwrap_or_else(|| "host".to_owned());
    let mut node = Node::new(Kind::Host, name);
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            node.attributes.push((name.to_owned(), value));
        }
    };
    say("kernel", tree.text("proc/sys/kernel/osrelease"));
    say("product", tree.text("sys/class/dmi/id/product_name"));
    say("maker", tree.text("sys/class/dmi/id/sys_vendor"));
    let memory = memory(tree);
    say("memory", memory.map(|bytes| bytes.to_string()));
    if let Some(is) = is_virtual(tree) {
        say("virtual", Some(if is { "yes" } else { "no" }.to_owned()));
        say("hypervisor", is.then(|| hypervisor(tree)).flatten());
    }
    let groups = Groups::read(tree);
    say("cgroup_cpus", groups.cpus(tree).map(|cpus| format!("{cpus}")));
    say("cgroup_memory", groups.memory(tree).map(|bytes| bytes.to_string()));
    let allowed = field(&tree.text("proc/self/status").unwrap_or_default(), "Cpus_allowed_list");
    say("cpus_allowed", allowed.filter(|allowed| !list(allowed).is_empty()));
    match shared_memory(tree) {
        Some(Some(bytes)) => say("shm", Some(bytes.to_string())),
        // What tmpfs takes when nobody says.
        Some(None) => say("shm", memory.map(|bytes| (bytes / 2).to_string())),
        None => {}
    }
    graph.add(None, node)
}

/// The value of a key in lines of `key: value`.
pub(super) fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// Memory of the host, bytes.
fn memory(tree: &Tree) -> Option<u64> {
    kilobytes(&field(&tree.text("proc/meminfo")?, "MemTotal")?)
}

/// A number of bytes from `123 kB`.
pub(super) fn kilobytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether this is a virtual machine; none when nothing says.
fn is_virtual(tree: &Tree) -> Option<bool> {
    // Processors of the x86 family say so themselves, whatever the firmware pretends to be.
    let flags = tree.text("proc/cpuinfo").and_then(|text| field(&text, "flags"));
    if let Some(flags) = flags {
        return Some(flags.split_whitespace().any(|flag| flag == "hypervisor"));
    }
    if tree.exists("sys/hypervisor/type") {
        return Some(true);
    }
    tree.text("sys/class/dmi/id/sys_vendor").map(|_| hypervisor(tree).is_some())
}

/// The hypervisor, as far as it is known by name.
fn hypervisor(tree: &Tree) -> Option<String> {
    if let Some(kind) = tree.text("sys/hypervisor/type") {
        return Some(kind);
    }
    let maker = tree.text("sys/class/dmi/id/sys_vendor")?;
    let product = tree.text("sys/class/dmi/id/product_name").unwrap_or_default();
    if maker == "Microsoft Corporation" && product == "Virtual Machine" {
        return Some("Hyper-V".to_owned());
    }
    let known = HYPERVISORS
        .iter()
        .find(|(prefix, _)| maker.starts_with(prefix) || product.starts_with(prefix));
    known.map(|(_, name)| (*name).to_owned())
}

/// A line of mountinfo: what is mounted where.
struct Mount {
    /// Which part of the file system is mounted.
    root: String,
    point: String,
    kind: String,
    options: String,
}

fn mounts(tree: &Tree) -> Vec<Mount> {
    let text = tree.text("proc/self/mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut what = what.split(' ');
        Some(Mount {
            root: place.next()?.to_owned(),
            point: place.next()?.to_owned(),
            kind: what.next()?.to_owned(),
            options: what.nth(1)?.to_owned(),
        })
    };
    text.lines().filter_map(mount).collect()
}

/// Size of /dev/shm in bytes: none without one, and none of a size when nobody gave it.
fn shared_memory(tree: &Tree) -> Option<Option<u64>> {
    let mount = mounts(tree).into_iter().rfind(|mount| mount.point == "/dev/shm")?;
    let size = mount.options.split(',').find_map(|option| option.strip_prefix("size="));
    Some(size.and_then(bytes))
}

/// A number of bytes as mount options have it: `64m`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k') => (&text[..at], 1 << 10),
        (at, 'm') => (&text[..at], 1 << 20),
        (at, 'g') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The control groups of this process, as folders in the tree from the innermost to the outermost.
struct Groups {
    /// Of version 2.
    unified: Vec<String>,
    /// Of version 1, by controller.
    cpu: Vec<String>,
    memory: Vec<String>,
}

impl Groups {
    fn read(tree: &Tree) -> Self {
        let text = tree.text("proc/self/cgroup").unwrap_or_default();
        let mounts = mounts(tree);
        let folders = |kind: &str, controller: &str| {
            let path = text.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers.split(',').any(|known| known == controller).then_some(path)
            });
            let mount = mounts.iter().find(|mount| {
                let has = |option: &str| mount.options.split(',').any(|known| known == option);
                mount.kind == kind && (controller.is_empty() || has(controller))
            });
            mount.zip(path).map_or_else(Vec::new, |(mount, path)| mount.folders(path))
        };
        Self {
            unified: folders("cgroup2", ""),
            cpu: folders("cgroup", "cpu"),
            memory: folders("cgroup", "memory"),
        }
    }

    /// The tightest limit of processor time, in processors.
    fn cpus(&self, tree: &Tree) -> Option<f64> {
        let share = |quota: &str, period: &str| {
            let (quota, period): (f64, f64) =
                (quota.trim().parse().ok()?, period.trim().parse().ok()?);
            (quota > 0.0 && period > 0.0).then(|| quota / period)
        };
        let new = self.unified.iter().filter_map(|folder| {
            let text = tree.text(&format!("{folder}/cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            share(quota, period)
        });
        let old = self.cpu.iter().filter_map(|folder| {
            let quota = tree.text(&format!("{folder}/cpu.cfs_quota_us"))?;
            share(&quota, &tree.text(&format!("{folder}/cpu.cfs_period_us"))?)
        });
        new.chain(old).min_by(f64::total_cmp)
    }

    /// The tightest limit of memory, bytes.
    fn memory(&self, tree: &Tree) -> Option<u64> {
        /// What version 1 says for no limit is near 2^63; nothing real is.
        const NONE: u64 = 1 << 60;
        let new =
            self.unified.iter().filter_map(|folder| tree.number(&format!("{folder}/memory.max")));
        let old = self.memory.iter();
        let old = old.filter_map(|folder| tree.number(&format!("{folder}/memory.limit_in_bytes")));
        new.chain(old).filter(|bytes| *bytes < NONE).min()
    }
}

impl Mount {
    /// The folders of a control group and of all around it, inside this mount.
    fn folders(&self, path: &str) -> Vec<String> {
        let point = self.point.trim_matches('/');
        // A group outside of what is mounted shows as the mount's own root.
        let inside = path.strip_prefix(self.root.trim_end_matches('/')).unwrap_or_default();
        let mut parts: Vec<_> =
            inside.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
        let mut folders = Vec::new();
        loop {
            folders.push([&[point], &parts[..]].concat().join("/"));
            if parts.pop().is_none() {
                return folders;
            }
        }
    }
}
