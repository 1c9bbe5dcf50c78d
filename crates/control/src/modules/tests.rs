//! A stand-in for the compiler, and what is kept of what it makes.

use std::os::unix::fs::PermissionsExt;

use baton_wasm::ENGINE_VERSION;
use tempfile::TempDir;

use super::*;

const MODULE: &[u8] = b"\0asm, so to speak";

/// A node's programs: this test for the one that runs modules, and a shell script for the compiler.
pub(crate) struct Stand {
    pub(crate) dir: TempDir,
    pub(crate) hash: ArtifactHash,
    module: PathBuf,
}

impl Stand {
    pub(crate) fn new(module: &[u8], memory_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hash = ArtifactHash::of(module);
        let path = dir.path().join("module.wasm");
        fs::write(&path, module).unwrap();
        let code = vec![0xc3; 4096];
        let header = Header {
            maker: Maker::here(),
            kind: baton_wasm::Kind::Module,
            module: *hash.bytes(),
            code_bytes: code.len() as u64,
            resets_by_memory: true,
            memory_bytes,
            memory_bytes_max: memory_bytes,
            text: 4096..8192,
            engine: ENGINE_VERSION.to_owned(),
        };
        fs::write(dir.path().join("code"), [header.encode(), code].concat()).unwrap();
        let stand = Self { dir, hash, module: path };
        stand.compiler("cat code");
        fs::write(stand.programs().host, program()).unwrap();
        // Another program, so that it has a name of its own.
        let mut for_components = program();
        for_components[2001] = 1;
        fs::write(stand.programs().component_host, for_components).unwrap();
        stand
    }

    fn compiler(&self, script: &str) {
        let path = self.programs().compiler;
        let script = format!(
            "#!/bin/sh\ncd {0}\necho >> runs\ncat > /dev/null\n{script}\n",
            self.dir.path().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }

    pub(crate) fn programs(&self) -> Programs {
        let at = |name| self.dir.path().join(name);
        Programs {
            compiler: at(Programs::COMPILER),
            host: at(Programs::HOST),
            component_host: at(Programs::COMPONENT_HOST),
        }
    }

    pub(crate) fn modules(&self) -> Modules {
        Modules::open(&self.dir.path().join("wasm"), self.programs()).unwrap()
    }

    pub(crate) fn runs(&self) -> usize {
        fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default().lines().count()
    }

    fn executable(&self) -> Result<Executable, ModuleError> {
        let modules = self.modules();
        let host = modules.host_of(&self.module)?;
        modules.keep_host(&host)?;
        modules.executable(&host, &self.hash, &self.module)
    }

    #[track_caller]
    fn refused(&self, script: &str, part: &str) {
        self.compiler(script);
        let text = self.executable().unwrap_err().to_string();
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// The smallest program that can be welded: one segment, code from its headers on.
fn program() -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16] = 3;
    file[18] = 62;
    file[25] = 1;
    file[54] = 56;
    file[32] = 64;
    file[56] = 1;
    file[64] = 1;
    file[68] = 5;
    for at in [64 + 32, 64 + 40] {
        file[at..at + 8].copy_from_slice(&4096u64.to_le_bytes());
    }
    file
}

#[test]
fn a_module_is_compiled_once() {
    let stand = Stand::new(MODULE, 1 << 16);
    let first = stand.executable().unwrap();
    let again = stand.executable().unwrap();
    assert!(first.path == again.path && first.bytes == again.bytes && first.header == again.header);
    assert_eq!(stand.runs(), 1);
    assert_eq!(first.header.memory_bytes, 1 << 16);
    let on_disk = fs::read(&first.path).unwrap();
    assert_eq!(on_disk.len(), first.bytes.len() + MAC_BYTES);
}

#[test]
fn what_was_tampered_with_is_made_anew() {
    let stand = Stand::new(MODULE, 1 << 16);
    let first = stand.executable().unwrap();
    let good = fs::read(&first.path).unwrap();
    let mut tampered = good.clone();
    tampered[5000] ^= 1;
    for (runs, bytes) in
        [tampered, good[..20].to_vec(), Vec::new(), [&good[..], b"x"].concat()].iter().enumerate()
    {
        fs::remove_file(&first.path).unwrap();
        fs::write(&first.path, bytes).unwrap();
        assert!(stand.executable().unwrap().bytes == first.bytes);
        assert_eq!(stand.runs(), runs + 2);
    }
    // Under another node's secret it is worth nothing.
    fs::write(stand.dir.path().join("wasm").join(SECRET), [7; 32]).unwrap();
    stand.executable().unwrap();
    assert_eq!(stand.runs(), 6);
}

#[test]
fn another_program_for_modules_makes_what_is_kept_stale() {
    let stand = Stand::new(MODULE, 1 << 16);
    let first = stand.executable().unwrap();
    let mut newer = program();
    newer[2000] = 1;
    fs::write(stand.programs().host, newer).unwrap();
    let second = stand.executable().unwrap();
    assert!(first.path != second.path && stand.runs() == 2);
    assert_eq!(hosts(&stand), 2);
    let removed = stand.modules().sweep(&BTreeSet::from([stand.hash]), Duration::ZERO).unwrap();
    assert_eq!(removed, 2, "the executable and its program");
    assert!(!first.path.exists() && second.path.exists() && hosts(&stand) == 1);
    assert_eq!(stand.modules().sweep(&BTreeSet::new(), Duration::ZERO).unwrap(), 1);
    assert_eq!(hosts(&stand), 1, "for the next function");
}

fn hosts(stand: &Stand) -> usize {
    let names = fs::read_dir(stand.dir.path().join("wasm")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| host::is_one(name.to_str().unwrap())).count()
}

#[test]
fn a_program_is_kept_once_and_taken_once_in_the_life_of_a_node() {
    let stand = Stand::new(MODULE, 1 << 16);
    let modules = stand.modules();
    let first = modules.host_of(&stand.module).unwrap();
    modules.keep_host(&first).unwrap();
    assert!(fs::read(&first.path).unwrap() == first.bytes && first.bytes == program());
    // Replaced under a running node: what runs goes on with what it has.
    fs::write(stand.programs().host, b"a newer one").unwrap();
    assert_eq!(modules.host_of(&stand.module).unwrap().hash, first.hash);
    // Damaged where it is kept: made anew.
    fs::remove_file(&first.path).unwrap();
    fs::write(&first.path, b"damaged").unwrap();
    modules.keep_host(&first).unwrap();
    assert!(fs::read(&first.path).unwrap() == first.bytes);
    assert_eq!(hosts(&stand), 1);
    assert_ne!(stand.modules().host_of(&stand.module).unwrap().hash, first.hash, "another node");
}

#[test]
fn an_executable_holds_no_program() {
    let stand = Stand::new(MODULE, 1 << 16);
    let executable = stand.executable().unwrap();
    let on_disk = fs::read(&executable.path).unwrap();
    assert!(on_disk.len() <= 5 * 4096 && on_disk.len().is_multiple_of(4096), "{}", on_disk.len());
    let whole = stand.modules().host_of(&stand.module).unwrap().behind(&executable.bytes);
    assert!(whole.ends_with(&program()) && whole.len() == on_disk.len() + program().len());
}

#[test]
fn a_compiler_that_refuses_or_fails_is_heard() {
    let stand = Stand::new(MODULE, 1 << 16);
    stand.refused("echo 'the module imports `x` `y`' >&2; exit 1", "the module imports `x` `y`");
    stand.refused("exit 1", "exit status: 1");
    stand.refused("kill -XCPU $$", "processor time");
    stand.refused("kill -ABRT $$", "memory");
    stand.refused("echo \"thread 'main' has overflowed its stack\" >&2; kill -ABRT $$", "ran over its stack");
    let panic =
        "echo \"thread 'main' (7) panicked at src/isa.rs:1:2:\" >&2; echo 'no entry found' >&2; exit 101";
    stand.refused(panic, "a fault of its own (src/isa.rs:1:2: no entry found)");
    stand.refused("exit 0", "no compiled module");
    stand.refused("head -c 5000 code", "5000 bytes");
    stand.refused("(head -c 50 code; head -c 1 /dev/zero; tail -c +52 code)", "changed while");
    let left = fs::read_dir(stand.dir.path().join("wasm")).unwrap().count();
    assert_eq!(left, 2, "the secret and the program");
}

#[test]
fn programs_that_are_missing_are_named() {
    let stand = Stand::new(MODULE, 1 << 16);
    fs::remove_file(stand.programs().host).unwrap();
    let text = stand.executable().unwrap_err().to_string();
    assert!(text.contains(Programs::HOST) && text.contains(Programs::HOST_ENV), "{text}");
    fs::remove_file(stand.programs().compiler).unwrap();
    let text = stand.executable().unwrap_err().to_string();
    assert!(text.contains(Programs::COMPILER) && text.contains(Programs::COMPILER_ENV), "{text}");
}

#[test]
fn missing_modules_are_compiled_at_once_and_only_those() {
    let stand = Stand::new(MODULE, 1 << 16);
    let other = stand.dir.path().join("other.wasm");
    fs::write(&other, b"another").unwrap();
    let modules = stand.modules();
    let host = modules.host_of(&stand.module).unwrap();
    let both =
        [(Arc::clone(&host), stand.hash, stand.module.clone()), (host, ArtifactHash::of(b"another"), other)];
    modules.compile_missing(&both[..1]);
    assert_eq!(stand.runs(), 0, "one is compiled when it is asked for");
    // The stand-in makes the first module's code of both: the second is not kept.
    modules.compile_missing(&both);
    assert_eq!(stand.runs(), 2);
    stand.executable().unwrap();
    assert_eq!(stand.runs(), 2);
    modules.compile_missing(&both);
    assert_eq!(stand.runs(), 2, "one is missing");
}
