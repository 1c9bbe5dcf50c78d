//! The settings of a manifest that take one word out of a few.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A setting with a closed vocabulary.
pub(crate) trait Word: Sized + Copy {
    /// Every word, in the order in which messages name them.
    const WORDS: &'static [&'static str];
    /// The setting that a word names.
    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word that the manifest uses.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl Word for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How finely memory keys follow buffers inside a cell.
    Trust {
        /// A function reaches only the buffers that it holds.
        #[default]
        Buffer = "buffer",
        /// The app's functions share one key for payloads.
        App = "app",
    }
}

words! {
    /// Who hands payloads over between the processes of an app, and wakes them.
    Wake {
        /// The kernel where it can and `trust = "buffer"` is asked for in so many words, rings otherwise.
        #[default]
        Auto = "auto",
        /// A program in the kernel; rings where it does not let one in.
        Ebpf = "ebpf",
        /// The functions themselves, over rings between each two of them.
        Ring = "ring",
    }
}

words! {
    /// How an app's functions are laid over the nodes of a cluster.
    Policy {
        /// Every function on every node.
        #[default]
        Spread = "spread",
        /// Together on as few nodes as have room for them.
        Pack = "pack",
    }
}

words! {
    /// What holds a replica.
    Isolation {
        /// A sandboxed Linux process.
        #[default]
        Process = "process",
        /// A native compartment inside a cell, behind a memory key.
        Compartment = "compartment",
        /// A Wasm instance inside a cell.
        Wasm = "wasm",
    }
}

words! {
    /// What a function is written for.
    RuntimeWord {
        /// An SDK that makes executables or modules.
        #[default]
        Native = "native",
        /// Python with the SDK.
        Python = "python",
        /// Whatever serves HTTP.
        Http = "http",
        /// AWS Lambda.
        Lambda = "lambda",
    }
}

words! {
    /// What a function for AWS Lambda is written in.
    LambdaRuntime {
        /// CPython 3.10.
        Python310 = "python3.10",
        /// CPython 3.11.
        #[default]
        Python311 = "python3.11",
        /// CPython 3.12.
        Python312 = "python3.12",
        /// CPython 3.13.
        Python313 = "python3.13",
        /// CPython 3.14.
        Python314 = "python3.14",
        /// Node.js 18.
        Node18 = "nodejs18.x",
        /// Node.js 20.
        Node20 = "nodejs20.x",
        /// Node.js 22.
        Node22 = "nodejs22.x",
        /// Node.js 24.
        Node24 = "nodejs24.x",
        /// An executable named `bootstrap`.
        ProvidedAl2 = "provided.al2",
        /// An executable named `bootstrap`.
        ProvidedAl2023 = "provided.al2023",
    }
}

impl LambdaRuntime {
    /// Whether it runs Python.
    #[must_use]
    pub fn is_python(self) -> bool {
        self.as_str().starts_with("python")
    }

    /// Whether it runs Node.js.
    #[must_use]
    pub fn is_node(self) -> bool {
        self.as_str().starts_with("nodejs")
    }

    /// Whether it runs an executable that the package brings along.
    #[must_use]
    pub fn is_provided(self) -> bool {
        self.as_str().starts_with("provided")
    }
}

words! {
    /// What to do where the machine lacks what an isolation setting needs.
    Fallback {
        /// Refuse the deployment.
        #[default]
        Refuse = "refuse",
        /// Run the function as a process.
        Process = "process",
    }
}

words! {
    /// A function's declared right to the mapping of its app's pool.
    PoolRights {
        /// Mapped writable: the function allocates and fills buffers.
        #[default]
        Write = "write",
        /// Mapped read-only: the function reads what it is handed and passes it on.
        Read = "read",
        /// Not mapped: the function handles no payloads.
        None = "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_its_own_setting() {
        for word in Isolation::WORDS {
            assert_eq!(Isolation::from_word(word).unwrap().as_str(), *word);
            assert_eq!(
                serde_json::to_string(&Isolation::from_word(word).unwrap()).unwrap(),
                format!("{word:?}")
            );
        }
        assert_eq!(PoolRights::from_word("rw"), None);
    }
}
