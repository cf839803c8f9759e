//! A call without its buffers: what is worked out once, and serves every call that looks the same.

use std::sync::Arc;

use dure_device::{Combine, Dtype};

use crate::Error;
use crate::geometry::{Geometry, Layouts};
use crate::link::Settings;
use crate::plan::Plan;
use crate::short::Short;

/// A plan on buffers of known layout, for one type and operation. A collective that is called again and again is
/// prepared once.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) plan: Arc<Plan>,
    /// The geometry of each of the plan's lanes.
    pub(crate) lanes: Box<[Geometry]>,
    /// The steps, if they are those of a short call.
    pub(crate) short: Option<Box<[Short]>>,
    pub(crate) dtype: Dtype,
    pub(crate) combine: Combine,
}

impl Prepared {
    /// Prepares calls by `plan` on buffers that lie as `layouts` say, for an executor with `settings`. The plan has at
    /// most as many lanes as the settings. `combine` is not looked at where nothing is combined.
    ///
    /// # Errors
    /// [`Error::SlotTooSmall`] when not even one element of each chunk of the plan's longest message fits a slot.
    pub fn new(
        plan: Arc<Plan>,
        layouts: &Layouts,
        settings: Settings,
        (dtype, combine): (Dtype, Combine),
    ) -> Result<Self, Error> {
        let lanes = u16::try_from(plan.lanes.len()).expect("lanes are counted in 16 bits");
        let geometry =
            |lane| Geometry::new(layouts.clone(), plan.shape, settings.slot_bytes, lane, lanes);
        let lanes = (0..lanes).map(geometry).collect::<Result<Box<[_]>, _>>()?;
        // Longer messages stay where they are or land: both ends must know which.
        let longest = settings.reading_bytes.min(settings.slot_bytes);
        let longest = longest.min(settings.landing_bytes.saturating_sub(1));
        let short = match (&plan.lanes[..], &lanes[..]) {
            ([lane], [geometry]) => Short::all(&lane.steps, geometry, longest),
            _ => None,
        };
        Ok(Self { plan, lanes, short, dtype, combine })
    }

    /// Memory that it takes besides its plan's, in bytes.
    pub fn bytes(&self) -> usize {
        let short = self.short.as_deref().map_or(0, |steps| {
            size_of_val(steps) + steps.iter().map(Short::operands).sum::<usize>()
        });
        // The lanes share their layouts.
        let layouts = self.lanes.first().map_or(0, |lane| lane.layouts().bytes());
        size_of::<Self>() + size_of_val(&*self.lanes) + layouts + short
    }
}
