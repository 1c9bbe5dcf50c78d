//! Replies that are read, and orders that are written, where they lie in the pool.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use baton::{Buffer, Reply};
use boutique_shop::wire::{Order, read};
use boutique_shop::{Failure, Layout};
use zerocopy::FromBytes;

/// A reply whose body is a `T`. The buffer goes back to the pool when this is dropped.
#[derive(Debug)]
pub struct Held<T: ?Sized> {
    reply: Reply,
    layout: PhantomData<T>,
}

impl<T: Layout + ?Sized> Held<T> {
    /// Takes a reply, if its body is a `T`.
    pub fn new(reply: Reply) -> Result<Self, Failure> {
        match read::<T>(reply.body()) {
            Ok(_) => Ok(Self { reply, layout: PhantomData }),
            // The callee broke the agreement: that is not the visitor's mistake.
            Err(failure) => Err(Failure::new(502, failure.message)),
        }
    }
}

impl<T: Layout + ?Sized> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // Size and alignment cannot change while the reply is held; whatever the bytes are, they are a `T`.
        read(self.reply.body()).expect("invariant: the layout was checked when the reply came")
    }
}

/// An order that is being written in a pool buffer.
#[derive(Debug)]
pub struct Draft(Buffer);

impl Draft {
    /// Takes zeroed bytes, if they have the size of an order.
    pub(crate) fn new(buffer: Buffer) -> Result<Self, Failure> {
        read::<Order>(&buffer).map(|_| ())?;
        Ok(Self(buffer))
    }

    /// The buffer, to lend it.
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.0
    }

    /// The buffer, to hand it on.
    pub fn into_buffer(self) -> Buffer {
        self.0
    }
}

impl Deref for Draft {
    type Target = Order;

    fn deref(&self) -> &Order {
        read(&self.0).expect("invariant: the layout was checked when the draft was made")
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Order {
        let order = Order::mut_from_bytes(&mut self.0);
        order.expect("invariant: the layout was checked when the draft was made")
    }
}
