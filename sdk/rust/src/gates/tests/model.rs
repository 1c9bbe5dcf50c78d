//! A tiny model of a cell's runtime, on the test's own thread: gates are plain functions over one book.

// UNSAFETY: gates get addresses, as in a cell.
#![expect(unsafe_code, reason = "reads and writes what a guest's addresses point to")]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use baton_abi::gate::{
    ALLOC, CALL, CANCEL, FREE, FREEZE, GATE_MAGIC, GATES, GATES_MAX, GatePage, Grant, LOG, NARROW, PENDING,
    Pair, Parcel, RANDOM, RECV, REPLY, REVOKE, WAIT,
};
use baton_abi::{ABI_VERSION, Descriptor, Extent, Flags, HeadExtent, Kind, NONE, Rights};
use zerocopy::IntoBytes;

/// What a modelled callee does with a call.
pub(super) enum Answer {
    /// Answers during the gate.
    Now(u16, Vec<u8>),
    /// Answers during the gate, with a head.
    WithHead(Vec<u8>, Vec<u8>),
    /// Fails during the gate, in its own words.
    Fails(u16, &'static str),
    /// The runtime fails the call.
    Lost(u16),
    /// Answers later, under this tag.
    Later(u32),
    /// The gate refuses.
    Refuses(i32),
}

/// A call as the runtime sees it.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) callee: u64,
    pub(super) d: Descriptor,
    pub(super) rights: Rights,
    pub(super) body: Vec<u8>,
    pub(super) head: Vec<u8>,
}

/// An answer as the runtime sees it.
#[derive(Debug, Clone)]
pub(super) struct Replied {
    pub(super) d: Descriptor,
    pub(super) body: Vec<u8>,
    pub(super) head: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Buffer {
    generation: u32,
    at: *mut u8,
    capacity: u64,
    is_held: bool,
    rights: Rights,
}

/// The book of the model.
pub(super) struct Model {
    buffers: BTreeMap<u32, Buffer>,
    next: u32,
    /// Events to give, oldest first. When there are none left: shutdown, once.
    pub(super) events: VecDeque<Parcel>,
    is_shut: bool,
    pub(super) callee: Box<dyn FnMut(&Made) -> Answer>,
    pub(super) calls: Vec<Made>,
    pub(super) replies: Vec<Replied>,
    pub(super) cancelled: Vec<u32>,
    pub(super) freed: Vec<u32>,
    pub(super) lines: Vec<(char, String)>,
    /// How often each gate was passed.
    pub(super) passed: [u32; GATES],
    /// What the next answer is refused with.
    pub(super) refuse_reply: Option<i32>,
    /// Whether plain bytes may be answered with.
    pub(super) refuse_bytes: bool,
    /// What allocations are refused with.
    pub(super) refuse_alloc: Option<i32>,
}

thread_local! {
    static MODEL: RefCell<Model> = RefCell::new(Model::new());
}

/// Looks at, or changes, the model of this thread.
pub(super) fn model<T>(with: impl FnOnce(&mut Model) -> T) -> T {
    MODEL.with_borrow_mut(with)
}

const EINVAL: i64 = -(libc::EINVAL as i64);
const ESTALE: i64 = -(libc::ESTALE as i64);

fn at<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap())
}

fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the SDK passes the address of a `T`.
    unsafe { at::<T>(address).read() }
}

fn write<T>(address: u64, value: T) {
    // SAFETY: the SDK passes the address of a `T` that may be written.
    unsafe { at::<T>(address).write(value) }
}

fn bytes(address: *const u8, len: u64) -> Vec<u8> {
    // SAFETY: the SDK, or the book, says that so many bytes lie there.
    unsafe { core::slice::from_raw_parts(address, usize::try_from(len).unwrap()) }.to_vec()
}

impl Model {
    fn new() -> Model {
        Model {
            buffers: BTreeMap::new(),
            next: 7,
            events: VecDeque::new(),
            is_shut: false,
            callee: Box::new(|_| Answer::Refuses(libc::EHOSTUNREACH)),
            calls: Vec::new(),
            replies: Vec::new(),
            cancelled: Vec::new(),
            freed: Vec::new(),
            lines: Vec::new(),
            passed: [0; GATES],
            refuse_reply: None,
            refuse_bytes: false,
            refuse_alloc: None,
        }
    }

    /// A buffer in the guest's hands.
    fn make(&mut self, capacity: u64, rights: Rights) -> Grant {
        let handle = self.next;
        self.next += 1;
        let memory = vec![0u8; usize::try_from(capacity).unwrap()].leak();
        let buffer =
            Buffer { generation: handle * 3, at: memory.as_mut_ptr(), capacity, is_held: true, rights };
        self.buffers.insert(handle, buffer);
        Grant { handle, generation: buffer.generation, base: buffer.at.expose_provenance() as u64, capacity }
    }

    fn held(&mut self, handle: u32, generation: u32) -> Option<&mut Buffer> {
        self.buffers.get_mut(&handle).filter(|buffer| buffer.is_held && buffer.generation == generation)
    }

    /// Buffers in the guest's hands.
    pub(super) fn held_count(&self) -> usize {
        self.buffers.values().filter(|buffer| buffer.is_held).count()
    }

    /// What the runtime takes a capability from the guest by; whether it had it.
    pub(super) fn take(&mut self, handle: u32) {
        if let Some(buffer) = self.buffers.get_mut(&handle) {
            buffer.is_held = false;
        }
    }

    /// All bytes of a buffer.
    pub(super) fn whole(&self, handle: u32) -> Vec<u8> {
        let buffer = self.buffers[&handle];
        bytes(buffer.at, buffer.capacity)
    }

    /// Bytes of a buffer where the handle is held, as a descriptor names them.
    fn named(&mut self, handle: u32, generation: u32, offset: u64, len: u64) -> Result<Vec<u8>, i64> {
        let buffer = self.held(handle, generation).ok_or(ESTALE)?;
        if offset + len > buffer.capacity {
            return Err(EINVAL);
        }
        Ok(bytes(buffer.at.wrapping_add(usize::try_from(offset).unwrap()), len))
    }

    /// What a guest's descriptor carries. What moves leaves its hands.
    fn carried(&mut self, parcel: &Parcel) -> Result<(Vec<u8>, Vec<u8>), i64> {
        let d = Descriptor::from_words(parcel.words);
        let Extent { handle, generation, offset, len } = d.body;
        let body = match d.flags {
            flags if flags.has(Flags::INLINE) => {
                let inline = if len > 8 { parcel.small.as_bytes() } else { offset.as_bytes() };
                inline.get(..usize::try_from(len).unwrap()).unwrap().to_vec()
            }
            flags if flags.has(Flags::BYTES) => bytes(at(offset), len),
            _ if handle == NONE => Vec::new(),
            _ => self.named(handle, generation, offset, len)?,
        };
        let HeadExtent { handle: head, generation: head_generation, offset, len } = d.head;
        let head_bytes = match head {
            NONE => Vec::new(),
            _ => self.named(head, head_generation, u64::from(offset), u64::from(len))?,
        };
        let moves = !d.flags.has(Flags::LEND) && !d.flags.has(Flags::SHARE);
        if moves {
            self.take(handle);
        }
        self.take(head);
        Ok((body, head_bytes))
    }

    /// A parcel that carries `body` (and `head` in front of it), in a buffer of the guest's from now on.
    pub(super) fn parcel(&mut self, d: Descriptor, head: &[u8], body: &[u8]) -> Parcel {
        if head.is_empty() && body.is_empty() {
            return Parcel { words: d.to_words(), from: 9, ..Parcel::EMPTY };
        }
        let rights =
            if d.flags.has(Flags::LEND) || d.flags.has(Flags::SHARE) { Rights::FROZEN } else { Rights::ALL };
        let grant = self.make((head.len() + body.len()).next_power_of_two().max(256) as u64, rights);
        let whole: Vec<u8> = head.iter().chain(body).copied().collect();
        // SAFETY: the buffer was made with room for both.
        unsafe { core::ptr::copy_nonoverlapping(whole.as_ptr(), at(grant.base), whole.len()) };
        let Grant { handle, generation, base, capacity } = grant;
        let mut d = Descriptor {
            body: Extent { handle, generation, offset: head.len() as u64, len: body.len() as u64 },
            ..d
        };
        if !head.is_empty() {
            d.head = HeadExtent { handle, generation, offset: 0, len: u32::try_from(head.len()).unwrap() };
        }
        let (body_base, body_capacity) = (base, capacity);
        Parcel {
            words: d.to_words(),
            body_base,
            body_capacity,
            head_base: base,
            head_capacity: capacity,
            rights: u32::from(rights.0),
            from: 9,
            ..Parcel::EMPTY
        }
    }

    /// Gives the guest a request. `flags` say how its body comes.
    pub(super) fn request(&mut self, tag: u32, flags: Flags, body: &[u8]) {
        let d = Descriptor { tag, flags, invocation: u64::from(tag) + 100, ..Descriptor::new(Kind::Request) };
        let parcel = self.parcel(d, &[], body);
        self.events.push_back(parcel);
    }

    /// Gives the guest an event without a payload.
    pub(super) fn event(&mut self, kind: Kind, tag: u32) {
        let words = Descriptor { tag, ..Descriptor::new(kind) }.to_words();
        self.events.push_back(Parcel { words, ..Parcel::EMPTY });
    }

    /// Gives the guest the answer to a call that was not answered at once.
    pub(super) fn late_reply(&mut self, tag: u32, body: &[u8]) {
        let parcel = self.parcel(Descriptor { tag, code: 200, ..Descriptor::new(Kind::Reply) }, &[], body);
        self.events.push_back(parcel);
    }

    fn reply(&mut self, address: u64) -> i64 {
        if let Some(errno) = self.refuse_reply.take() {
            return -i64::from(errno);
        }
        let parcel = read::<Parcel>(address);
        let d = Descriptor::from_words(parcel.words);
        if self.refuse_bytes && (d.flags.has(Flags::BYTES) || d.flags.has(Flags::INLINE) && d.body.len > 8) {
            return -i64::from(libc::EACCES);
        }
        match self.carried(&parcel) {
            Ok((body, head)) => {
                self.replies.push(Replied { d, body, head });
                0
            }
            Err(errno) => errno,
        }
    }

    fn call(&mut self, callee: u64, address: u64) -> i64 {
        let parcel = read::<Parcel>(address);
        let d = Descriptor::from_words(parcel.words);
        let (body, head) = match self.carried(&parcel) {
            Ok(carried) => carried,
            Err(errno) => return errno,
        };
        let rights = Rights(u8::try_from(parcel.rights).unwrap());
        let made = Made { callee, d, rights, body, head };
        let answer = (self.callee)(&made);
        self.calls.push(made);
        let reply = Descriptor::new(Kind::Reply);
        let parcel = match answer {
            Answer::Now(code, body) => self.parcel(Descriptor { code, ..reply }, &[], &body),
            Answer::WithHead(head, body) => self.parcel(Descriptor { code: 200, ..reply }, &head, &body),
            Answer::Fails(code, text) => {
                self.parcel(Descriptor { code, flags: Flags::ERROR, ..reply }, &[], text.as_bytes())
            }
            Answer::Lost(code) => {
                let words = Descriptor { code, flags: Flags::ERROR, ..reply }.to_words();
                Parcel { words, ..Parcel::EMPTY }
            }
            Answer::Refuses(errno) => return -i64::from(errno),
            Answer::Later(tag) => {
                write(address, Parcel { words: Descriptor { tag, ..reply }.to_words(), ..Parcel::EMPTY });
                return PENDING;
            }
        };
        write(address, parcel);
        0
    }
}

fn pass(number: usize) {
    model(|model| model.passed[number] += 1);
}

extern "C" fn receive(reply: u64, out: u64, _: u64) -> i64 {
    pass(RECV);
    model(|model| {
        if reply != 0 {
            let replied = model.reply(reply);
            if replied < 0 {
                return replied;
            }
        }
        if model.events.is_empty() {
            if core::mem::replace(&mut model.is_shut, true) {
                // The guest waits for what never comes.
                return -i64::from(libc::EDEADLK);
            }
            model.event(Kind::Shutdown, 0);
        }
        write(out, model.events.pop_front().unwrap());
        1
    })
}

extern "C" fn reply(parcel: u64, _: u64, _: u64) -> i64 {
    pass(REPLY);
    model(|model| model.reply(parcel))
}

extern "C" fn call(callee: u64, parcel: u64, _: u64) -> i64 {
    pass(CALL);
    model(|model| model.call(callee, parcel))
}

extern "C" fn alloc(bytes: u64, count: u64, out: u64) -> i64 {
    pass(ALLOC);
    model(|model| {
        if let Some(errno) = model.refuse_alloc {
            return -i64::from(errno);
        }
        for nth in 0..count {
            let grant = model.make(bytes, Rights::ALL);
            write(out + nth * size_of::<Grant>() as u64, grant);
        }
        i64::try_from(count).unwrap()
    })
}

extern "C" fn free(pairs: u64, count: u64, _: u64) -> i64 {
    pass(FREE);
    model(|model| {
        let mut result = 0;
        for nth in 0..count {
            let Pair { handle, generation } = read(pairs + nth * size_of::<Pair>() as u64);
            match model.held(handle, generation) {
                Some(buffer) => {
                    buffer.is_held = false;
                    model.freed.push(handle);
                }
                None => result = ESTALE,
            }
        }
        result
    })
}

extern "C" fn freeze(pair: u64, _: u64, _: u64) -> i64 {
    pass(FREEZE);
    let Pair { handle, generation } = read(pair);
    model(|model| match model.held(handle, generation) {
        Some(buffer) => {
            buffer.rights = Rights::FROZEN;
            0
        }
        None => ESTALE,
    })
}

extern "C" fn revoke(pair: u64, _: u64, _: u64) -> i64 {
    pass(REVOKE);
    let Pair { handle, generation } = read(pair);
    model(|model| if model.held(handle, generation).is_some() { 2 } else { ESTALE })
}

extern "C" fn narrow(pair: u64, offset: u64, len: u64) -> i64 {
    pass(NARROW);
    let Pair { handle, generation } = read(pair);
    model(|model| match model.held(handle, generation) {
        Some(buffer) if offset + len <= buffer.capacity => 0,
        Some(_) => EINVAL,
        None => ESTALE,
    })
}

extern "C" fn cancel(tag: u64, _: u64, _: u64) -> i64 {
    pass(CANCEL);
    model(|model| model.cancelled.push(u32::try_from(tag).unwrap()));
    0
}

extern "C" fn log(level: u64, text: u64, len: u64) -> i64 {
    pass(LOG);
    let text = String::from_utf8(bytes(at(text), len)).unwrap();
    model(|model| model.lines.push((char::from(u8::try_from(level).unwrap()), text)));
    0
}

extern "C" fn random(out: u64, len: u64, _: u64) -> i64 {
    pass(RANDOM);
    for nth in 0..len {
        write(out + nth, u8::try_from(nth % 251).unwrap());
    }
    i64::try_from(len).unwrap()
}

extern "C" fn nothing(_: u64, _: u64, _: u64) -> i64 {
    -i64::from(libc::ENOSYS)
}

/// A page of these gates.
pub(super) fn page() -> &'static mut GatePage {
    type Gate = extern "C" fn(u64, u64, u64) -> i64;
    let table: [(usize, Gate); GATES - 1] = [
        (RECV, receive),
        (REPLY, reply),
        (CALL, call),
        (ALLOC, alloc),
        (FREE, free),
        (FREEZE, freeze),
        (REVOKE, revoke),
        (NARROW, narrow),
        (CANCEL, cancel),
        (WAIT, nothing),
        (LOG, log),
        (RANDOM, random),
    ];
    let mut gates = [0; GATES_MAX];
    for (number, gate) in table {
        gates[number] = (gate as *const ()).expose_provenance() as u64;
    }
    Box::leak(Box::new(GatePage { magic: GATE_MAGIC, abi_version: ABI_VERSION, gates, incarnation: 1 }))
}

/// Forgets everything.
pub(super) fn reset() {
    model(|model| *model = Model::new());
}

/// The guest finds itself in a copy.
pub(super) fn become_copy(page: *mut GatePage, incarnation: u64) {
    let place = page.cast::<u8>().wrapping_add(core::mem::offset_of!(GatePage, incarnation)).cast::<u64>();
    // SAFETY: the page is a leaked box, and no reference to it is used again.
    unsafe { place.write_volatile(incarnation) };
}
