//! A clock that costs a few cycles to read: the processor's counter of ticks, whose rate is found out when somebody wants
//! to know what time it was. (Asking the system costs more than a step of a small call.)

use std::time::Instant;

/// The counter now. Its rate is constant, and all cores show the same, on every processor of the last ten years.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn ticks() -> u64 {
    #[allow(unsafe_code, reason = "an intrinsic")]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}

/// The counter now.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) fn ticks() -> u64 {
    let ticks: u64;
    #[allow(unsafe_code, reason = "one instruction")]
    // SAFETY: the virtual counter may be read by every program under Linux.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
    }
    ticks
}

/// When the clock was started, by both counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    ticks: u64,
    instant: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { ticks: ticks(), instant: Instant::now() }
    }

    /// Nanoseconds per tick, measured from the start until now.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
    pub(crate) fn rate(&self) -> f64 {
        let passed = ticks().saturating_sub(self.ticks).max(1);
        self.instant.elapsed().as_nanos() as f64 / passed as f64
    }

    /// Nanoseconds from the start to a tick.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time for people; it is not negative"
    )]
    pub(crate) fn nanos(&self, ticks: u64, rate: f64) -> u64 {
        (ticks.saturating_sub(self.ticks) as f64 * rate) as u64
    }
}
