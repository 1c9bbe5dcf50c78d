//! A function in Rust with the standard library alone: it finds its gates in the auxiliary vector and calls them. What the
//! first byte of a request asks for is what it does.

// UNSAFETY: calls gates by address and reads payloads where they lie.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, mpsc};
use std::time::{Duration, Instant, SystemTime};

const AT_BATON: u64 = 0x4254_4e00;
const NONE: u32 = u32::MAX;
const BYTES: u8 = 64;
const INLINE: u8 = 16;

#[repr(C)]
struct Page {
    magic: u32,
    abi_version: u32,
    gates: [Option<extern "C" fn(u64, u64, u64) -> i64>; 32],
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Parcel {
    kind: u8,
    flags: u8,
    code: u16,
    tag: u32,
    invocation: u64,
    deadline_ns: u64,
    body_handle: u32,
    body_generation: u32,
    body_offset: u64,
    body_len: u64,
    head_handle: u32,
    head_generation: u32,
    head_offset: u32,
    head_len: u32,
    body_base: u64,
    rest: [u64; 7],
}

unsafe extern "C" {
    fn getauxval(kind: u64) -> u64;
}

fn gate(number: usize, a: u64, b: u64) -> i64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    let at = *PAGE.get_or_init(|| unsafe { getauxval(AT_BATON) });
    let page = unsafe { &*(at as *const Page) };
    page.gates[number].expect("a gate")(a, b, 0)
}

fn body(parcel: &Parcel) -> Vec<u8> {
    let at = match parcel {
        Parcel { flags, .. } if flags & INLINE != 0 => &raw const parcel.body_offset as u64,
        Parcel { body_handle: NONE, .. } => return Vec::new(),
        _ => parcel.body_base + parcel.body_offset,
    };
    unsafe { std::slice::from_raw_parts(at as *const u8, parcel.body_len as usize) }.to_vec()
}

fn threads() -> String {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new((Mutex::new(0u64), Condvar::new(), RwLock::new(vec![1u64, 2, 3]), Barrier::new(4)));
    thread_local!(static OWN: Cell<u64> = const { Cell::new(1) });
    let workers: Vec<_> = (0..4u64)
        .map(|number| {
            let (sender, shared) = (sender.clone(), Arc::clone(&shared));
            std::thread::Builder::new().name(format!("worker {number}")).spawn(move || {
                OWN.with(|own| own.set(own.get() + number));
                shared.3.wait();
                *shared.0.lock().unwrap() += shared.2.read().unwrap().iter().sum::<u64>();
                shared.1.notify_all();
                sender.send(OWN.with(Cell::get)).unwrap();
                number
            })
        })
        .collect();
    drop(sender);
    let guard = shared.0.lock().unwrap();
    let total = *shared.1.wait_while(guard, |total| *total < 24).unwrap();
    let own: u64 = receiver.iter().sum();
    let joined: u64 = workers.into_iter().map(|worker| worker.unwrap().join().unwrap()).sum();
    let late = shared.0.lock().unwrap();
    let (_late, timeout) = shared.1.wait_timeout(late, Duration::from_millis(5)).unwrap();
    format!("{total} {own} {joined} {}", timeout.timed_out())
}

fn act(text: &str, served: u32) -> String {
    match text.bytes().next() {
        Some(b'n') => served.to_string(),
        Some(b't') => threads(),
        Some(b'h') => {
            let words: HashMap<&str, usize> = text.split(' ').map(|word| (word, word.len())).collect();
            words.values().sum::<usize>().to_string()
        }
        Some(b'u') => {
            let caught = std::panic::catch_unwind(|| assert_eq!(text, "something else"));
            format!("caught {}", caught.is_err())
        }
        Some(b'j') => {
            let thread = std::thread::spawn(|| panic!("in a thread"));
            format!("joined {}", thread.join().is_err())
        }
        Some(b'z') => {
            let began = Instant::now();
            std::thread::sleep(Duration::from_millis(10));
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            format!("{} {}", began.elapsed() >= Duration::from_millis(10), since > 1_600_000_000)
        }
        Some(b'm') => {
            let missing = std::fs::read("/etc/passwd").unwrap_err().kind();
            let refused = std::net::TcpListener::bind("127.0.0.1:0").is_err();
            let child = std::process::Command::new("/bin/true").status().is_err();
            let processors = std::thread::available_parallelism().map_or(0, usize::from);
            format!("{missing:?} {refused} {child} {processors}")
        }
        Some(b'p') => panic!("on purpose"),
        Some(b'o') => {
            #[expect(unconditional_recursion, reason = "it is to overflow its stack")]
            fn deeper(depth: u64) -> u64 {
                let room = [depth; 512];
                std::hint::black_box(&room);
                deeper(depth + 1) + room[0]
            }
            deeper(0).to_string()
        }
        _ => text.to_owned(),
    }
}

fn main() {
    static SERVED: AtomicU32 = AtomicU32::new(0);
    println!("begun");
    let mut event: Parcel = unsafe { std::mem::zeroed() };
    while gate(0, 0, &raw mut event as u64) == 1 {
        if event.kind != 1 {
            continue;
        }
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = act(&String::from_utf8_lossy(&body(&event)), served);
        if event.flags & INLINE == 0 && event.body_handle != NONE {
            let pair = [event.body_handle, event.body_generation];
            gate(4, &raw const pair as u64, 1);
        }
        let reply = Parcel {
            kind: 2,
            flags: BYTES,
            code: 200,
            body_offset: answer.as_ptr() as u64,
            body_len: answer.len() as u64,
            body_handle: NONE,
            head_handle: NONE,
            ..event
        };
        assert_eq!(gate(1, &raw const reply as u64, 0), 0, "the reply is taken");
    }
}
