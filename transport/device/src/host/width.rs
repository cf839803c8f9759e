//! The vector units of the CPU, chosen at run time.

use std::fmt;

/// A set of vector instructions that this CPU has: a `Width` cannot be made on a CPU without them. All widths give the
/// same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width(pub(super) Set);

/// The sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// What every CPU of the architecture has: SSE2 on x86-64, NEON on aarch64.
    Plain,
    /// AVX2 and F16C: 32 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, VL and DQ: 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// [`Set::Avx2`] as a type.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

/// [`Set::Avx512`] as a type.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512;

impl Width {
    /// What every CPU of the architecture has.
    pub const PLAIN: Self = Self(Set::Plain);

    /// The widest that this CPU has.
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::PLAIN)
    }

    /// All that this CPU has, from narrow to wide.
    #[cfg(target_arch = "x86_64")]
    pub fn available() -> impl Iterator<Item = Self> {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        let sets = [(true, Set::Plain), (avx2, Set::Avx2), (avx512, Set::Avx512)];
        sets.into_iter().filter_map(|(there, set)| there.then_some(Self(set)))
    }

    /// All that this CPU has, from narrow to wide.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn available() -> impl Iterator<Item = Self> {
        std::iter::once(Self::PLAIN)
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            Set::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
        })
    }
}

/// Defines a function whose first argument is a [`Width`], from one body that is compiled for each: the body is inlined
/// into functions that may use the width's instructions, and the compiler makes vector code of its loops. Where a body
/// needs intrinsics, `with U` gives it a type that stands for the width, and another body serves the plain width.
macro_rules! per_width {
    ($vis:vis fn $name:ident<$($g:ident: $bound:path),*>($($arg:ident: $type:ty),+) = $body:path;) => {
        $crate::host::width::per_width! {
            @ $vis fn $name<$($g: $bound),*>($($arg: $type),+) plain $body; wide [] $body;
        }
    };
    (
        $vis:vis fn $name:ident<$($g:ident: $bound:path),*>($($arg:ident: $type:ty),+)
        plain $plain:path; with $unit:ident $body:path;
    ) => {
        $crate::host::width::per_width! {
            @ $vis fn $name<$($g: $bound),*>($($arg: $type),+) plain $plain; wide [$unit] $body;
        }
    };
    (
        @ $vis:vis fn $name:ident<$($g:ident: $bound:path),*>($($arg:ident: $type:ty),+)
        plain $plain:path; wide [$($unit:ident)?] $body:path;
    ) => {
        $vis fn $name<$($g: $bound),*>(width: $crate::host::width::Width, $($arg: $type),+) {
            use $crate::host::width::Set;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c")]
            fn avx2<$($g: $bound),*>($($arg: $type),+) {
                $(type $unit = $crate::host::width::Avx2;)?
                $body($($arg),+);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512<$($g: $bound),*>($($arg: $type),+) {
                $(type $unit = $crate::host::width::Avx512;)?
                $body($($arg),+);
            }
            match width.0 {
                Set::Plain => $plain($($arg),+),
                // SAFETY: a `Width` is made only on a CPU that has its instructions.
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => unsafe { avx2::<$($g),*>($($arg),+) },
                // SAFETY: a `Width` is made only on a CPU that has its instructions.
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => unsafe { avx512::<$($g),*>($($arg),+) },
            }
        }
    };
}

pub(super) use per_width;
