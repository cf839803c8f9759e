//! Names of kinds, as the text forms and the XML have them.

use std::fmt::{self, Display};

use crate::graph::{Kind, LinkKind, Source};

/// A closed set of values, each with a name.
pub(crate) trait Named: Copy + Eq + 'static {
    /// Each value with its name.
    const NAMES: &'static [(Self, &'static str)];

    /// The name of a value.
    fn name(self) -> &'static str {
        let (_, name) = Self::NAMES.iter().find(|(value, _)| *value == self).expect("all have one");
        name
    }

    /// The value of a name.
    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }

    /// All names, for people.
    fn all() -> String {
        Self::NAMES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }
}

impl Named for Kind {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Host, "host"),
        (Self::Package, "package"),
        (Self::Numa, "numa"),
        (Self::Cache, "cache"),
        (Self::HostBridge, "host_bridge"),
        (Self::Bridge, "bridge"),
        (Self::Accelerator, "accelerator"),
        (Self::Nic, "nic"),
        (Self::Port, "port"),
        (Self::AcceleratorSwitch, "accelerator_switch"),
        (Self::CxlMemory, "cxl_memory"),
        (Self::CxlRegion, "cxl_region"),
        (Self::Dax, "dax"),
        (Self::Pool, "pool"),
        (Self::Switch, "switch"),
        (Self::Other, "other"),
    ];
}

impl Named for LinkKind {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Inside, "inside"),
        (Self::Pcie, "pcie"),
        (Self::Cxl, "cxl"),
        (Self::Socket, "socket"),
        (Self::Accelerator, "accelerator"),
        (Self::Coherent, "coherent"),
        (Self::Cable, "cable"),
    ];
}

impl Named for Source {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Default, "default"), (Self::Declared, "declared"), (Self::Measured, "measured")];
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_has_one_name<T: Named + fmt::Debug>() {
        for (value, name) in T::NAMES {
            assert_eq!(T::named(name), Some(*value));
            assert_eq!(value.name(), *name);
        }
        assert_eq!(T::named("no such name"), None);
    }

    #[test]
    fn names_are_of_one_value() {
        each_has_one_name::<Kind>();
        each_has_one_name::<LinkKind>();
        each_has_one_name::<Source>();
        assert_eq!(Kind::NAMES.len(), Kind::Other as usize + 1);
        assert_eq!(LinkKind::NAMES.len(), LinkKind::Cable as usize + 1);
    }
}
