//! Numbered places whose numbers are never mistaken for those of earlier tenants.

/// Where something lives, and which tenant of the place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    at: u32,
    generation: u32,
}

/// Things by [`Id`].
pub(super) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, thing: T) -> Id {
        if let Some(at) = self.free.pop() {
            let place = &mut self.places[at as usize];
            place.1 = Some(thing);
            return Id { at, generation: place.0 };
        }
        self.places.push((0, Some(thing)));
        Id { at: self.places.len() as u32 - 1, generation: 0 }
    }

    pub fn get(&self, id: Id) -> Option<&T> {
        self.places.get(id.at as usize).filter(|place| place.0 == id.generation)?.1.as_ref()
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.places.get_mut(id.at as usize).filter(|place| place.0 == id.generation)?.1.as_mut()
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let place = self.places.get_mut(id.at as usize).filter(|place| place.0 == id.generation)?;
        let thing = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(id.at);
        Some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_finds_nothing() {
        let mut slab = Slab::default();
        let old = slab.insert('a');
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('b');
        assert_eq!((slab.get(old), slab.get(new)), (None, Some(&'b')));
        assert_eq!(slab.remove(old), None);
    }
}
