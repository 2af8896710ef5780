//! Where a gate keeps its clients. What lies here never moves, so that keys leave
//! no copies behind when there are more of them, and is dropped, and wiped with
//! it, where it lies.

/// Where something lies.
pub(crate) type Place = u32;

/// How much room is made at once.
const BOARD: usize = 128;

/// Values at places, the lowest of which are taken first.
pub(crate) struct Shelf<T> {
    boards: Vec<Vec<Option<T>>>,
    vacant: Vec<Place>,
    places: Place,
}

impl<T> Shelf<T> {
    pub(crate) const fn new() -> Self {
        Self { boards: Vec::new(), vacant: Vec::new(), places: 0 }
    }

    /// How many places there are, vacant ones too: all are below this.
    pub(crate) fn places(&self) -> Place {
        self.places
    }

    /// Puts a value somewhere; where.
    pub(crate) fn insert(&mut self, value: T) -> Place {
        if let Some(place) = self.vacant.pop() {
            self.set(place, value);
            return place;
        }
        let place = self.places;
        match self.boards.last_mut().filter(|board| board.len() < BOARD) {
            Some(board) => board.push(Some(value)),
            None => {
                let mut board = Vec::with_capacity(BOARD);
                board.push(Some(value));
                self.boards.push(board);
            }
        }
        self.places += 1;
        place
    }

    /// Puts a value in place of another.
    pub(crate) fn set(&mut self, place: Place, value: T) {
        if let Some(slot) = self.slot(place) {
            *slot = Some(value);
        }
    }

    /// Drops the value that lies there.
    pub(crate) fn remove(&mut self, place: Place) {
        if let Some(slot) = self.slot(place).filter(|slot| slot.is_some()) {
            *slot = None;
            self.vacant.push(place);
        }
    }

    pub(crate) fn get(&self, place: Place) -> Option<&T> {
        let at = usize::try_from(place).ok()?;
        self.boards.get(at / BOARD)?.get(at % BOARD)?.as_ref()
    }

    fn slot(&mut self, place: Place) -> Option<&mut Option<T>> {
        let at = usize::try_from(place).ok()?;
        self.boards.get_mut(at / BOARD)?.get_mut(at % BOARD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_and_places_are_taken_again() {
        let mut shelf = Shelf::new();
        let first = shelf.insert(0);
        let lies = std::ptr::from_ref(shelf.get(first).unwrap());
        let places: Vec<_> = (1..1000).map(|value| shelf.insert(value)).collect();
        assert!((1..1000).zip(&places).all(|(value, place)| shelf.get(*place) == Some(&value)));
        assert_eq!(std::ptr::from_ref(shelf.get(first).unwrap()), lies);
        assert_eq!(shelf.places(), 1000);
        shelf.remove(places[7]);
        shelf.remove(places[7]);
        assert_eq!(shelf.get(places[7]), None);
        assert_eq!((shelf.insert(5), shelf.insert(6), shelf.places()), (places[7], 1000, 1001));
    }
}
