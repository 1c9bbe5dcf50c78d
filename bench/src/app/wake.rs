//! Who tells a process replica that something has come for it.

use toml::Value;

use super::App;

/// How process replicas of an app hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Wake {
    /// By rings between each two of them.
    Ring,
    /// By the kernel, which moves capabilities as well.
    Ebpf,
}

impl Wake {
    /// The manifest's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Ebpf => "ebpf",
        }
    }

    /// The name of its rows.
    #[must_use]
    pub const fn system(self) -> &'static str {
        match self {
            Self::Ring => "baton-process-ring",
            Self::Ebpf => "baton-process-ebpf",
        }
    }
}

impl App {
    /// The same with replicas that hand over this way.
    #[must_use]
    pub fn waking(mut self, wake: Wake) -> Self {
        if let Some(app) = self.manifest.get_mut("app").and_then(Value::as_table_mut) {
            app.insert("wake".to_owned(), Value::String(wake.word().to_owned()));
        }
        self
    }
}
