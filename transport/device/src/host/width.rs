//! The vector units of the CPU, chosen at run time.

use std::fmt;

/// A set of vector instructions that this CPU has: a `Width` cannot be made on a CPU without them. All widths give the
/// same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width(pub(super) Set);

/// The sets that kernels are compiled for. Each contains those before it.
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
    /// And conversion to bfloat16 (Cooper Lake, Zen 4).
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// And arithmetic on binary16 (Sapphire Rapids).
    #[cfg(target_arch = "x86_64")]
    Avx512Fp16,
}

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
        let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
        let fp16 = bf16 && is_x86_feature_detected!("avx512fp16");
        let sets = [
            (true, Set::Plain),
            (avx2, Set::Avx2),
            (avx512, Set::Avx512),
            (bf16, Set::Avx512Bf16),
            (fp16, Set::Avx512Fp16),
        ];
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
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Fp16 => "avx512-fp16",
        })
    }
}

/// Defines a function from a [`Set`] to a function of that set, all made of one body: it is inlined into functions that
/// may use the set's instructions, and the compiler makes vector code of its loops.
///
/// # Safety
/// Besides what the body asks for, the function that is returned may be called only on a CPU that has the set.
macro_rules! per_width {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident<$($g:ident: $bound:path),*>($($arg:ident: $type:ty),+) = $body:path;
    ) => {
        $(#[$doc])*
        $vis const fn $name<$($g: $bound),*>(
            set: $crate::host::width::Set,
        ) -> unsafe fn($($type),+) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c")]
            unsafe fn avx2<$($g: $bound),*>($($arg: $type),+) {
                // SAFETY: the caller's promise.
                unsafe { $body($($arg),+) };
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
            unsafe fn avx512<$($g: $bound),*>($($arg: $type),+) {
                // SAFETY: the caller's promise.
                unsafe { $body($($arg),+) };
            }
            match set {
                $crate::host::width::Set::Plain => $body,
                #[cfg(target_arch = "x86_64")]
                $crate::host::width::Set::Avx2 => avx2::<$($g),*>,
                #[cfg(target_arch = "x86_64")]
                _ => avx512::<$($g),*>,
            }
        }
    };
}

pub(super) use per_width;
