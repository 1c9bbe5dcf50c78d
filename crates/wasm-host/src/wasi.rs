//! The few calls of WASI that toolchains leave in modules: enough for a program to start, to print, to tell the time and to sleep.

mod poll;

use wasmtime::{Caller, Linker};

use crate::gates::Gates;
use baton_abi::gate::{CLOCK, RANDOM};
use baton_abi::wasm::MEMORY;

const NAME: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
/// Vectors of one write.
const VECTORS_MAX: i32 = 64;

type Guest<'a> = Caller<'a, Gates>;

fn bytes<'a>(guest: &'a mut Guest<'_>, at: i32, len: i32) -> Option<&'a mut [u8]> {
    let memory = guest.get_export(MEMORY)?.into_memory()?;
    let (at, len) = (at.cast_unsigned() as usize, len.cast_unsigned() as usize);
    memory.data_mut(guest).get_mut(at..at.checked_add(len)?)
}

fn word(guest: &mut Guest<'_>, at: i32) -> Option<i32> {
    let bytes = bytes(guest, at, 4)?;
    Some(i32::from_le_bytes(bytes.first_chunk::<4>().copied()?))
}

fn put(guest: &mut Guest<'_>, at: i32, value: &[u8]) -> i32 {
    let len = i32::try_from(value.len()).unwrap_or(i32::MAX);
    match bytes(guest, at, len) {
        Some(space) => {
            space.copy_from_slice(value);
            SUCCESS
        }
        None => FAULT,
    }
}

/// Strings with their ends, as C has them.
fn strings(of: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    of.map(|text| text.into_bytes().into_iter().chain([0]).collect()).collect()
}

fn environment() -> Vec<Vec<u8>> {
    strings(std::env::vars().map(|(name, value)| format!("{name}={value}")))
}

fn arguments() -> Vec<Vec<u8>> {
    strings(std::env::args())
}

fn sizes(guest: &mut Guest<'_>, (count_at, bytes_at): (i32, i32), list: &[Vec<u8>]) -> i32 {
    let total: usize = list.iter().map(Vec::len).sum();
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    match put(guest, count_at, &number(list.len())) {
        SUCCESS => put(guest, bytes_at, &number(total)),
        error => error,
    }
}

fn list(guest: &mut Guest<'_>, (pointers_at, text_at): (i32, i32), list: &[Vec<u8>]) -> i32 {
    let (mut pointer, mut text) = (pointers_at, text_at);
    for string in list {
        let done = [put(guest, pointer, &text.to_le_bytes()), put(guest, text, string)];
        if let Some(error) = done.into_iter().find(|done| *done != SUCCESS) {
            return error;
        }
        pointer = pointer.wrapping_add(4);
        text = text.wrapping_add(i32::try_from(string.len()).unwrap_or(i32::MAX));
    }
    SUCCESS
}

fn write(guest: &mut Guest<'_>, fd: i32, (vectors, count): (i32, i32), written_at: i32) -> i32 {
    use std::io::Write as _;
    if !(1..=2).contains(&fd) {
        return BADF;
    }
    if !(0..=VECTORS_MAX).contains(&count) {
        return INVAL;
    }
    let mut text = Vec::new();
    for nth in 0..count {
        let at = vectors.wrapping_add(nth * 8);
        let (Some(from), Some(len)) = (word(guest, at), word(guest, at.wrapping_add(4))) else {
            return FAULT;
        };
        let Some(part) = bytes(guest, from, len) else { return FAULT };
        text.extend_from_slice(part);
    }
    // A line that cannot be written is lost, as any log.
    let _ = if fd == 1 { std::io::stdout().write_all(&text) } else { std::io::stderr().write_all(&text) };
    put(guest, written_at, &u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes())
}

fn time(guest: &mut Guest<'_>, clock: i32, at: i32) -> i32 {
    if bytes(guest, at, 16).is_none() {
        return FAULT;
    }
    // Realtime is 0 and monotonic 1, in WASI as in Linux.
    let place = u64::from(at.cast_unsigned());
    if !(0..=1).contains(&clock) || guest.data().pass(CLOCK, [clock.cast_unsigned().into(), place, 0]) < 0 {
        return INVAL;
    }
    let Some(stamp) = bytes(guest, at, 16) else { return FAULT };
    let (words, _) = stamp.as_chunks::<8>();
    let [seconds, nanos] =
        core::array::from_fn(|nth| words.get(nth).map_or(0, |word| u64::from_le_bytes(*word)));
    put(guest, at, &seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos).to_le_bytes())
}

fn random(guest: &mut Guest<'_>, at: i32, len: i32) -> i32 {
    if bytes(guest, at, len).is_none() {
        return FAULT;
    }
    let (mut done, whole) = (0u64, u64::from(len.cast_unsigned()));
    while done < whole {
        let got = guest.data().pass(RANDOM, [u64::from(at.cast_unsigned()) + done, whole - done, 0]);
        match u64::try_from(got) {
            Ok(got @ 1..) => done += got,
            _ => return FAULT,
        }
    }
    SUCCESS
}

/// Defines all of them.
pub(crate) fn link(linker: &mut Linker<Gates>) -> wasmtime::Result<()> {
    linker
        .func_wrap(NAME, "fd_write", |mut guest: Guest<'_>, fd: i32, at: i32, count: i32, written: i32| {
            write(&mut guest, fd, (at, count), written)
        })?
        .func_wrap(NAME, "fd_close", |_: i32| BADF)?
        .func_wrap(NAME, "fd_seek", |_: i32, _: i64, _: i32, _: i32| BADF)?
        .func_wrap(NAME, "fd_fdstat_get", |_: i32, _: i32| BADF)?
        .func_wrap(NAME, "fd_prestat_get", |_: i32, _: i32| BADF)?
        .func_wrap(NAME, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| BADF)?
        .func_wrap(NAME, "args_sizes_get", |mut guest: Guest<'_>, count: i32, bytes: i32| {
            sizes(&mut guest, (count, bytes), &arguments())
        })?
        .func_wrap(NAME, "args_get", |mut guest: Guest<'_>, pointers: i32, text: i32| {
            list(&mut guest, (pointers, text), &arguments())
        })?
        .func_wrap(NAME, "environ_sizes_get", |mut guest: Guest<'_>, count: i32, bytes: i32| {
            sizes(&mut guest, (count, bytes), &environment())
        })?
        .func_wrap(NAME, "environ_get", |mut guest: Guest<'_>, pointers: i32, text: i32| {
            list(&mut guest, (pointers, text), &environment())
        })?
        .func_wrap(NAME, "clock_time_get", |mut guest: Guest<'_>, clock: i32, _: i64, at: i32| {
            time(&mut guest, clock, at)
        })?
        .func_wrap(NAME, "random_get", |mut guest: Guest<'_>, at: i32, len: i32| random(&mut guest, at, len))?
        .func_wrap(NAME, "sched_yield", || SUCCESS)?
        .func_wrap(
            NAME,
            "poll_oneoff",
            |mut guest: Guest<'_>, from: i32, to: i32, count: i32, written: i32| {
                poll::poll(&mut guest, (from, to), count, written)
            },
        )?
        .func_wrap(NAME, "proc_exit", |code: i32| -> () { std::process::exit(code) })?;
    Ok(())
}
