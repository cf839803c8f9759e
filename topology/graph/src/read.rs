//! Recognises a description of a topology by its content.

use std::fmt::{self, Display};

use crate::error::Error;
use crate::fabric;
use crate::graph::Graph;
use crate::xml;

/// A format of descriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// NCCL's or RCCL's XML.
    Nccl,
    /// The XML of this library: NCCL's, with `<dure>` in it.
    Dure,
    /// hwloc's XML.
    Hwloc,
    /// A description of a fabric.
    Fabric(fabric::Format),
}

impl Graph {
    /// Reads a description in whichever known format it is. What [`fabric::read`] warns of is not told.
    ///
    /// # Errors
    /// The text is in no known format, or is broken; XML errors name element and line.
    pub fn read(text: &str) -> Result<(Self, Format), Error> {
        if text.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
            return xml::read(text);
        }
        let reading = fabric::read(text)?;
        Ok((reading.graph, Format::Fabric(reading.format)))
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nccl => f.pad("NCCL XML"),
            Self::Dure => f.pad("dure XML"),
            Self::Hwloc => f.pad("hwloc XML"),
            Self::Fabric(format) => format.fmt(f),
        }
    }
}
