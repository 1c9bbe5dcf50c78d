//! A table of things that wait for an answer, by tag: an index and a generation, so that an answer to something else, or a
//! second one, finds nothing.

use core::mem::ManuallyDrop;

/// Behind the last of the free places.
const END: u16 = u16::MAX;

#[derive(Debug)]
struct Place<T> {
    generation: u16,
    /// Of a free place: the one that is free after it.
    next: u16,
    value: Option<T>,
}

/// Values by tag.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    /// The place that is taken next; [`END`] if all are taken.
    free: u16,
    max: usize,
    len: usize,
}

/// A free place. Nothing changes until it is filled.
pub(crate) struct Vacancy<'s, T> {
    place: &'s mut Place<T>,
    free: &'s mut u16,
    len: &'s mut usize,
    tag: u32,
}

/// A value that is there, and its place.
pub(crate) struct Found<'s, T> {
    place: &'s mut Place<T>,
    free: &'s mut u16,
    len: &'s mut usize,
    index: u16,
}

impl<T> Vacancy<'_, T> {
    /// The tag of what is put there.
    pub(crate) fn tag(&self) -> u32 {
        self.tag
    }

    /// Puts a value there. Inlined, so that it is built where it stays: one that is built elsewhere and copied keeps the
    /// processor waiting.
    #[inline(always)]
    pub(crate) fn fill(self, value: T) {
        *self.free = self.place.next;
        let before = self.place.value.replace(value);
        debug_assert!(before.is_none());
        // It was vacant: there is nothing to drop, and no need to look.
        let _ = ManuallyDrop::new(before);
        *self.len += 1;
    }
}

impl<T> Found<'_, T> {
    /// The value: there is one.
    #[inline(always)]
    pub(crate) fn value(&self) -> Option<&T> {
        self.place.value.as_ref()
    }

    /// Removes it.
    #[inline(always)]
    pub(crate) fn end(self) {
        self.place.value = None;
        self.place.end(self.index, self.free);
        *self.len -= 1;
    }
}

fn split(tag: u32) -> (u16, u16) {
    let [i0, i1, g0, g1] = tag.to_le_bytes();
    (u16::from_le_bytes([i0, i1]), u16::from_le_bytes([g0, g1]))
}

impl<T> Slab<T> {
    /// At most `max` values at a time.
    pub(crate) fn new(max: usize) -> Slab<T> {
        Slab { places: Vec::new(), free: END, max: max.min(usize::from(END)), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A place for a value. `None` if there are as many as there may be.
    #[inline(always)]
    pub(crate) fn vacancy(&mut self) -> Option<Vacancy<'_, T>> {
        let index = if self.free == END { self.grow()? } else { self.free };
        let place = self.places.get_mut(usize::from(index))?;
        let tag = u32::from(place.generation) << 16 | u32::from(index);
        Some(Vacancy { place, free: &mut self.free, len: &mut self.len, tag })
    }

    /// Adds a value; gives its tag. `None` if there are as many as there may be.
    #[inline(always)]
    pub(crate) fn add(&mut self, value: T) -> Option<u32> {
        let vacancy = self.vacancy()?;
        let tag = vacancy.tag();
        vacancy.fill(value);
        Some(tag)
    }

    #[cold]
    fn grow(&mut self) -> Option<u16> {
        let index = u16::try_from(self.places.len()).ok().filter(|_| self.places.len() < self.max)?;
        self.places.push(Place { generation: 1, next: END, value: None });
        self.free = index;
        Some(index)
    }

    #[inline]
    pub(crate) fn get(&self, tag: u32) -> Option<&T> {
        let (index, generation) = split(tag);
        self.places.get(usize::from(index)).filter(|place| place.generation == generation)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, tag: u32) -> Option<&mut T> {
        let (index, generation) = split(tag);
        self.places.get_mut(usize::from(index)).filter(|place| place.generation == generation)?.value.as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, tag: u32) -> Option<T> {
        let (index, generation) = split(tag);
        let place = self.places.get_mut(usize::from(index)).filter(|place| place.generation == generation)?;
        let value = place.value.take()?;
        place.end(index, &mut self.free);
        self.len -= 1;
        Some(value)
    }

    /// A value, to be looked at first and then removed, or not.
    #[inline(always)]
    pub(crate) fn find(&mut self, tag: u32) -> Option<Found<'_, T>> {
        let (index, generation) = split(tag);
        let place = self.places.get_mut(usize::from(index)).filter(|place| place.generation == generation)?;
        place.value.is_some().then_some(Found { place, free: &mut self.free, len: &mut self.len, index })
    }

    /// Removes a value where it lies, if `take` gives something for it: that.
    #[inline(always)]
    pub(crate) fn take_if<R>(&mut self, tag: u32, take: impl FnOnce(&mut T) -> Option<R>) -> Option<R> {
        let (index, generation) = split(tag);
        let place = self.places.get_mut(usize::from(index)).filter(|place| place.generation == generation)?;
        let taken = take(place.value.as_mut()?)?;
        place.value = None;
        place.end(index, &mut self.free);
        self.len -= 1;
        Some(taken)
    }

    /// Tags of all values.
    pub(crate) fn tags(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, place)| place.value.is_some())
            .map(|(index, place)| u32::from(place.generation) << 16 | index)
            .collect()
    }
}

impl<T> Place<T> {
    /// The place at `index` is free, and its tags so far name nothing.
    #[inline(always)]
    fn end(&mut self, index: u16, free: &mut u16) {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.next = core::mem::replace(free, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacancy_that_is_not_filled_changes_nothing() {
        let mut slab = Slab::new(2);
        let tag = slab.vacancy().unwrap().tag();
        assert_eq!((slab.get(tag), slab.len()), (None, 0));
        assert_eq!(slab.add('a'), Some(tag));
        let vacancy = slab.vacancy().unwrap();
        let other = vacancy.tag();
        vacancy.fill('b');
        assert!(slab.vacancy().is_none());
        assert_eq!((slab.get(tag), slab.get(other), slab.len()), (Some(&'a'), Some(&'b'), 2));
        assert_eq!(slab.take_if(tag, |_| None::<()>), None);
        assert_eq!(
            (slab.take_if(tag, |value| Some(*value)), slab.take_if(tag, |value| Some(*value))),
            (Some('a'), None)
        );
        assert_eq!((slab.get(tag), slab.len()), (None, 1));
        assert!(slab.add('c').is_some() && slab.add('d').is_none());
    }

    #[test]
    fn what_is_found_stays_until_it_is_ended() {
        let mut slab = Slab::new(2);
        let tag = slab.add('a').unwrap();
        assert_eq!(slab.find(tag).and_then(|found| found.value().copied()), Some('a'));
        assert_eq!((slab.get(tag), slab.len()), (Some(&'a'), 1));
        slab.find(tag).unwrap().end();
        assert!(slab.find(tag).is_none() && slab.get(tag).is_none() && slab.len() == 0);
        let next = slab.add('b').unwrap();
        assert!(next != tag && slab.find(tag).is_none() && slab.find(next).is_some());
    }

    #[test]
    fn a_tag_finds_its_value_once() {
        let mut slab = Slab::new(2);
        let (first, second) = (slab.add('a').unwrap(), slab.add('b').unwrap());
        assert!(slab.add('c').is_none());
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        let third = slab.add('c').unwrap();
        assert_ne!(third, first);
        assert_eq!((slab.get(first), slab.get(third), slab.len()), (None, Some(&'c'), 2));
        assert_eq!(slab.tags().len(), 2);
        assert_eq!(slab.get(second), Some(&'b'));
    }
}
