//! The compiled module or component in this program's own file: a loadable segment of it begins with the artifact's header.

// UNSAFETY: reads this program's own headers, and takes memory of its image for a precompiled module.
#![expect(unsafe_code, reason = "the module is part of this program's image")]

use core::ptr::NonNull;

use baton_wasm::{HEADER_BYTES, Kind, MAGIC};
use wasmtime::{Config, Engine, Module};

/// Looks at the segments of the first program that it is told of, which is the main one.
unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, found: *mut libc::c_void) -> libc::c_int {
    // SAFETY: a structure of the C library's.
    let info = unsafe { &*info };
    // SAFETY: the caller's own value.
    let found = unsafe { &mut *found.cast::<Option<NonNull<[u8]>>>() };
    // SAFETY: the program's headers, as many as it says.
    let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let place = |header: &libc::Elf64_Phdr| {
        Some((info.dlpi_addr + header.p_vaddr, usize::try_from(header.p_filesz).ok()?))
    };
    let mut segments = loaded.filter_map(place);
    let is_module = |&(at, len): &(u64, usize)| {
        // SAFETY: a loaded segment, longer than that.
        len >= HEADER_BYTES && unsafe { core::slice::from_raw_parts(at as *const u8, MAGIC.len()) } == MAGIC
    };
    // The module lies in up to three segments, one behind the other.
    if let Some((at, first)) = segments.by_ref().find(is_module) {
        let whole =
            |len: usize, (next, more): (u64, usize)| if at + len as u64 == next { len + more } else { len };
        let len = segments.fold(first, whole);
        *found = NonNull::new(core::ptr::slice_from_raw_parts_mut(at as *mut u8, len));
    }
    1
}

/// Where the artifact lies.
#[must_use]
pub fn artifact() -> Option<NonNull<[u8]>> {
    let mut found: Option<NonNull<[u8]>> = None;
    // SAFETY: the callback is given this local, for as long as the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut found).cast()) };
    found
}

/// Executable already: the loader did that, and scanned it.
struct AsItIs;

impl wasmtime::CustomCodeMemory for AsItIs {
    fn required_alignment(&self) -> usize {
        4096
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// How an engine takes code from here.
pub fn settings(config: &mut Config) {
    config.with_custom_code_memory(Some(std::sync::Arc::new(AsItIs)));
}

/// What the artifact was made from, as its header says.
#[must_use]
pub fn kind(artifact: NonNull<[u8]>) -> Kind {
    // SAFETY: a loaded segment of this program's, which nobody writes.
    Kind::said_by(unsafe { artifact.as_ref() })
}

/// The code behind the artifact's header.
fn code(artifact: NonNull<[u8]>) -> wasmtime::Result<NonNull<[u8]>> {
    let at = artifact.cast::<u8>().as_ptr().wrapping_add(HEADER_BYTES);
    let len = artifact.len().saturating_sub(HEADER_BYTES);
    NonNull::new(core::ptr::slice_from_raw_parts_mut(at, len))
        .ok_or_else(|| wasmtime::format_err!("it lies nowhere"))
}

/// The module, in place.
///
/// # Errors
/// It was made for another engine, or is none.
pub fn module(engine: &Engine, artifact: NonNull<[u8]>) -> wasmtime::Result<Module> {
    let code = code(artifact)?;
    // SAFETY: made by the node's compiler, checked by its hash before it became a part of this file, and never written.
    unsafe { Module::deserialize_raw(engine, code) }
}

/// The component, in place.
///
/// # Errors
/// It was made for another engine, or is none.
pub fn component(
    engine: &Engine,
    artifact: NonNull<[u8]>,
) -> wasmtime::Result<wasmtime::component::Component> {
    let code = code(artifact)?;
    // SAFETY: as above.
    unsafe { wasmtime::component::Component::deserialize_raw(engine, code) }
}
