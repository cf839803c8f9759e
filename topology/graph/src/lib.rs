//! What is there: hosts with their devices and links, the fabric above them, as graphs.
//!
//! A [`Graph`] is read from sysfs, from NCCL's or hwloc's XML, or from what describes a fabric (ibnetdiscover, Slurm,
//! topograph, Kubernetes). A [`Cluster`] is what a cost model needs of it: where ranks are, what joins them, how wide.
//!
//! Nothing here measures, chooses or talks to anybody.

#![forbid(unsafe_code)]

mod cluster;
pub mod device;
mod error;
pub mod fabric;
mod graph;
mod measured;
mod merge;
mod names;
mod rails;
mod read;
mod rebellions;
mod route;
pub mod speed;
mod synthetic;
mod sysfs;
pub mod usual;
mod xml;

pub use crate::cluster::{Cluster, Group, HostKind, Level, Pool, Port, Reach, Site};
pub use crate::error::Error;
pub use crate::graph::{Graph, Kind, Link, LinkId, LinkKind, Node, NodeId, Source};
pub use crate::measured::{Contradiction, Measured, Sort, contradictions};
pub use crate::merge::{Member, MergeError};
pub use crate::rails::Rail;
pub use crate::read::Format;
pub use crate::route::{PathType, Route, Routes};
pub use crate::synthetic::LayoutError;
