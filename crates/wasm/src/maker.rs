//! What artifacts are made for: an engine, its settings, and a processor's features.

/// The engine's version; `Cargo.toml` pins it.
pub const ENGINE_VERSION: &str = "48.0.8";

/// Address space that a memory of a module lies in.
pub const MEMORY_RESERVATION: u64 = 4 << 30;
/// What lies behind it.
pub const MEMORY_GUARD: u64 = 32 << 20;
/// How much stack a module may use.
pub const STACK_BYTES_MAX: usize = 512 << 10;

/// Raised with every change of the settings that the constants here do not show.
const SETTINGS_VERSION: u32 = 3;

/// What an artifact is made for, and what this process could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Of engine and settings: code made under another is not run.
    pub settings: [u8; 32],
    /// Features of the processor that the code may use, as [`Maker::missing_features`] names them.
    pub features: u64,
}

macro_rules! features {
    ($($name:tt),*) => {
        const FEATURES: &[&str] = &[$($name),*];

        /// What wasmtime looks for, too.
        #[cfg(target_arch = "x86_64")]
        fn present() -> impl Iterator<Item = bool> {
            [$(std::is_x86_feature_detected!($name)),*].into_iter()
        }
    };
}

features!(
    "cmpxchg16b",
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "avxvnni",
    "bmi1",
    "bmi2",
    "avx512bitalg",
    "avx512dq",
    "avx512f",
    "avx512vl",
    "avx512vbmi",
    "avx512vnni",
    "lzcnt"
);

impl Maker {
    /// What this build makes and runs on this machine.
    #[must_use]
    pub fn here() -> Maker {
        let mut hasher = blake3::Hasher::new_derive_key("baton 2026 settings of compiled Wasm modules");
        hasher.update(ENGINE_VERSION.as_bytes());
        for number in [u64::from(SETTINGS_VERSION), MEMORY_RESERVATION, MEMORY_GUARD, STACK_BYTES_MAX as u64]
        {
            hasher.update(&number.to_le_bytes());
        }
        let features = present().enumerate().map(|(bit, is)| u64::from(is) << bit).sum();
        Maker { settings: *hasher.finalize().as_bytes(), features }
    }

    /// The name under which the artifact of a module is kept: another module, engine, setting or processor gives another.
    #[must_use]
    pub fn key(&self, module: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("baton 2026 key of a compiled Wasm module");
        hasher.update(&self.settings).update(&self.features.to_le_bytes()).update(module);
        *hasher.finalize().as_bytes()
    }

    /// The features that code made for `self` may use and `other` has not.
    pub fn missing_features(&self, other: &Maker) -> impl Iterator<Item = &'static str> {
        let missing = self.features & !other.features;
        FEATURES.iter().enumerate().filter(move |(bit, _)| missing >> bit & 1 != 0).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_module_or_maker_has_another_key() {
        let here = Maker::here();
        let newer = Maker { features: here.features ^ 1, ..here };
        assert_ne!(here.key(&[1; 32]), here.key(&[2; 32]));
        assert_ne!(here.key(&[1; 32]), newer.key(&[1; 32]));
        assert_eq!(here, Maker::here());
    }

    #[test]
    fn missing_features_are_named() {
        let with = |features| Maker { settings: [0; 32], features };
        let missing = |wanted, have| with(wanted).missing_features(&with(have)).collect::<Vec<_>>();
        assert_eq!(missing(0b110, 0b010), ["ssse3"]);
        assert!(missing(0b010, 0b111).is_empty());
    }
}
