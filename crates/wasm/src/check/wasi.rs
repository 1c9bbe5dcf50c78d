//! The calls of WASI that modules may import: what toolchains leave in every program.

use wasmparser::ValType;

const NAME: &str = "wasi_snapshot_preview1";

/// A call by its name and the types of its parameters: `i` is an `i32`, `l` an `i64`. All but the last return an errno.
pub(super) struct Call {
    name: &'static str,
    params: &'static str,
}

const CALLS: [Call; 15] = [
    Call { name: "args_get", params: "ii" },
    Call { name: "args_sizes_get", params: "ii" },
    Call { name: "environ_get", params: "ii" },
    Call { name: "environ_sizes_get", params: "ii" },
    Call { name: "clock_time_get", params: "ili" },
    Call { name: "random_get", params: "ii" },
    Call { name: "fd_write", params: "iiii" },
    Call { name: "fd_close", params: "i" },
    Call { name: "fd_seek", params: "ilii" },
    Call { name: "fd_fdstat_get", params: "ii" },
    Call { name: "fd_prestat_get", params: "ii" },
    Call { name: "fd_prestat_dir_name", params: "iii" },
    Call { name: "sched_yield", params: "" },
    Call { name: "poll_oneoff", params: "iiii" },
    Call { name: EXIT, params: "i" },
];

const EXIT: &str = "proc_exit";

impl Call {
    pub(super) fn params(&self) -> Vec<ValType> {
        self.params.bytes().map(|letter| if letter == b'l' { ValType::I64 } else { ValType::I32 }).collect()
    }

    pub(super) fn results(&self) -> &'static [ValType] {
        if self.name == EXIT { &[] } else { &[ValType::I32] }
    }

    pub(super) fn signature(&self) -> String {
        let types: Vec<String> = self.params().iter().map(ToString::to_string).collect();
        let results = if self.results().is_empty() { "" } else { " (result i32)" };
        format!("(param {}){results}", types.join(" "))
    }
}

pub(super) fn call(module: &str, name: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| module == NAME && call.name == name)
}

/// What to do about an import that there is not.
pub(super) fn hint(module: &str, name: &str) -> &'static str {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match module {
        baton_abi::wasm::MODULE => "the only function there is `gate`; build with the SDK of this version",
        "env" => {
            "the linker found no definition of it: link the library that has it, and do not pass `--allow-undefined`"
        }
        "wasi_unstable" => "this is WASI of 2019: build with a toolchain for `wasm32-wasip1`",
        _ if module.starts_with("wasi:") => {
            "this belongs to a component: build a core module for `wasm32-wasip1`"
        }
        "wasi" => "threads are not there: build without `-pthread` and for `wasm32-wasip1`",
        "__wbindgen_placeholder__" | "wbg" => {
            "this is for browsers: build for `wasm32-wasip1`, without wasm-bindgen"
        }
        NAME if starts(&["sock_"]) => "there is no network: call other functions by the SDK",
        NAME if starts(&["path_", "fd_"]) => "there are no files: bring data in the request or in the module",
        NAME => "this call of WASI is not there; leave out what needs it",
        _ => {
            "a module may import `baton.gate` and the start-up calls of `wasi_snapshot_preview1`, and nothing else"
        }
    }
}
