//! A table of things that wait for an answer, by tag: an index and a generation, so that an answer to something else, or a
//! second one, finds nothing.

#[derive(Debug)]
struct Place<T> {
    generation: u16,
    value: Option<T>,
}

/// Values by tag.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u16>,
    max: usize,
    len: usize,
}

fn split(tag: u32) -> (usize, u16) {
    let [i0, i1, g0, g1] = tag.to_le_bytes();
    (usize::from(u16::from_le_bytes([i0, i1])), u16::from_le_bytes([g0, g1]))
}

impl<T> Slab<T> {
    /// At most `max` values at a time.
    pub(crate) fn new(max: usize) -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new(), max: max.min(usize::from(u16::MAX)), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A place for a value that is put there later, or freed; its tag. `None` if there are as many as there may be.
    #[inline]
    pub(crate) fn reserve(&mut self) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        let place = self.places.get(usize::from(index))?;
        Some(u32::from(place.generation) << 16 | u32::from(index))
    }

    /// Puts a value into its reserved place. Inlined, so that it is built where it stays: one that is built elsewhere and
    /// copied keeps the processor waiting.
    #[inline(always)]
    pub(crate) fn fill(&mut self, reserved: u32, value: T) {
        let (index, generation) = split(reserved);
        if let Some(place) = self.places.get_mut(index).filter(|place| place.generation == generation) {
            place.value = Some(value);
            self.len += 1;
        }
    }

    /// Frees a reserved place.
    #[cold]
    pub(crate) fn unreserve(&mut self, reserved: u32) {
        let (index, _) = split(reserved);
        self.free.extend(u16::try_from(index));
    }

    /// Adds a value; gives its tag. `None` if there are as many as there may be.
    #[inline(always)]
    pub(crate) fn add(&mut self, value: T) -> Option<u32> {
        let tag = self.reserve()?;
        self.fill(tag, value);
        Some(tag)
    }

    #[cold]
    fn grow(&mut self) -> Option<u16> {
        let index = u16::try_from(self.places.len()).ok().filter(|_| self.places.len() < self.max)?;
        self.places.push(Place { generation: 1, value: None });
        Some(index)
    }

    #[inline]
    pub(crate) fn get(&self, tag: u32) -> Option<&T> {
        let (index, generation) = split(tag);
        self.places.get(index).filter(|place| place.generation == generation)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, tag: u32) -> Option<&mut T> {
        let (index, generation) = split(tag);
        self.places.get_mut(index).filter(|place| place.generation == generation)?.value.as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, tag: u32) -> Option<T> {
        let (index, generation) = split(tag);
        let place = self.places.get_mut(index).filter(|place| place.generation == generation)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1).max(1);
        self.len -= 1;
        self.free.push(u16::try_from(index).ok()?);
        Some(value)
    }

    /// Removes a value where it lies; whether it was there.
    #[inline]
    pub(crate) fn discard(&mut self, tag: u32) -> bool {
        let (index, generation) = split(tag);
        let Some(place) = self.places.get_mut(index).filter(|place| place.generation == generation) else {
            return false;
        };
        if place.value.is_none() {
            return false;
        }
        place.value = None;
        place.generation = place.generation.wrapping_add(1).max(1);
        self.len -= 1;
        if let Ok(index) = u16::try_from(index) {
            self.free.push(index);
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_place_is_nobody_elses() {
        let mut slab = Slab::new(2);
        let reserved = slab.reserve().unwrap();
        let other = slab.add('b').unwrap();
        assert_eq!((slab.add('c'), slab.tags()), (None, vec![other]));
        assert_eq!(slab.get(reserved), None);
        slab.fill(reserved, 'a');
        assert_eq!((slab.get(reserved), slab.get(other), slab.len()), (Some(&'a'), Some(&'b'), 2));
        assert!(slab.discard(reserved) && !slab.discard(reserved));
        let again = slab.reserve().unwrap();
        slab.unreserve(again);
        assert!(slab.add('d').is_some() && slab.add('e').is_none());
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
