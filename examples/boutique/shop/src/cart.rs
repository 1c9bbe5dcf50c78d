//! Cart: what each visitor wants to buy, in memory. Bounded: the visitor unseen for longest makes room for a new one.

use std::collections::HashMap;

use crate::failure::Failure;
use crate::text::Text;
use crate::wire::{CartAdd, Line, UserId};

/// Most carts that are kept.
pub const USERS_MAX: usize = 10_000;
/// Most lines of one cart.
pub const LINES_MAX: usize = 20;
/// Most of one product that can be added at once.
pub const ADD_MAX: u32 = 10;
/// Most of one product in a cart: adding stops there.
pub const QUANTITY_MAX: u32 = 99;

/// Why cart refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CartError {
    /// Not 1 to 10 of it.
    Quantity(u32),
    /// The cart has all the lines that it may have.
    Full,
    /// No user or no product is named.
    Nameless,
}

impl From<CartError> for Failure {
    fn from(error: CartError) -> Self {
        match error {
            CartError::Quantity(asked) => {
                Self::new(422, format!("Add 1 to {ADD_MAX} of a product, not {asked}."))
            }
            CartError::Full => {
                Self::new(409, format!("A cart holds at most {LINES_MAX} different products."))
            }
            CartError::Nameless => Self::new(422, "A cart needs a visitor and a product."),
        }
    }
}

/// A cart and its neighbours in the order of last use.
#[derive(Debug)]
struct Slot {
    user: UserId,
    lines: Vec<Line>,
    newer: usize,
    older: usize,
}

/// No slot.
const NONE: usize = usize::MAX;

/// All carts.
#[derive(Debug)]
pub struct Carts {
    slots: Vec<Slot>,
    by_user: HashMap<UserId, usize>,
    newest: usize,
    oldest: usize,
    users_max: usize,
}

impl Default for Carts {
    fn default() -> Self {
        Self::with_users_max(USERS_MAX)
    }
}

impl Carts {
    /// Room for so many carts, at least one.
    pub fn with_users_max(users_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            by_user: HashMap::new(),
            newest: NONE,
            oldest: NONE,
            users_max: users_max.max(1),
        }
    }

    /// The lines of a visitor's cart; none if there is no cart.
    pub fn get(&mut self, user: &UserId) -> &[Line] {
        let Some(&at) = self.by_user.get(user) else { return &[] };
        self.touch(at);
        &self.slots[at].lines
    }

    /// Puts a line into a visitor's cart. What is there already becomes more of it, up to 99.
    pub fn add(&mut self, request: &CartAdd) -> Result<(), CartError> {
        let (user, line) = (&request.user, request.line);
        // Store the text afresh: bytes behind its end, which a peer may have set, must not make two of one product.
        let product = Text::new(line.product.as_str()).unwrap_or(Text::EMPTY);
        if !(1..=ADD_MAX).contains(&line.quantity) {
            return Err(CartError::Quantity(line.quantity));
        }
        if user.is_empty() || product.is_empty() {
            return Err(CartError::Nameless);
        }
        let at = self.by_user.get(user).copied().unwrap_or_else(|| self.open(*user));
        self.touch(at);
        let lines = &mut self.slots[at].lines;
        if let Some(known) = lines.iter_mut().find(|known| known.product == product) {
            known.quantity = (known.quantity + line.quantity).min(QUANTITY_MAX);
        } else if lines.len() < LINES_MAX {
            lines.push(Line { quantity: line.quantity, product });
        } else {
            return Err(CartError::Full);
        }
        Ok(())
    }

    /// Empties a visitor's cart.
    pub fn empty(&mut self, user: &UserId) {
        if let Some(&at) = self.by_user.get(user) {
            self.slots[at].lines.clear();
        }
    }

    /// How many carts there are.
    pub fn users(&self) -> usize {
        self.by_user.len()
    }

    /// Takes a fresh slot, or that of the visitor unseen for longest.
    fn open(&mut self, user: UserId) -> usize {
        let at = if self.slots.len() < self.users_max {
            self.slots.push(Slot { user, lines: Vec::new(), newer: NONE, older: NONE });
            let at = self.slots.len() - 1;
            self.link(at);
            at
        } else {
            let at = self.oldest;
            self.by_user.remove(&self.slots[at].user);
            self.slots[at].user = user;
            self.slots[at].lines.clear();
            at
        };
        self.by_user.insert(user, at);
        at
    }

    /// Makes a slot the one used last.
    fn touch(&mut self, at: usize) {
        if self.newest == at {
            return;
        }
        let Slot { newer, older, .. } = self.slots[at];
        // A slot that is not the newest has a newer neighbour.
        self.slots[newer].older = older;
        if older == NONE {
            self.oldest = newer;
        } else {
            self.slots[older].newer = newer;
        }
        self.link(at);
    }

    /// Puts an unlinked slot in front.
    fn link(&mut self, at: usize) {
        self.slots[at].older = self.newest;
        self.slots[at].newer = NONE;
        if self.newest == NONE {
            self.oldest = at;
        } else {
            let second = self.newest;
            self.slots[second].newer = at;
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(user: &str, product: &str, quantity: u32) -> CartAdd {
        CartAdd {
            user: Text::new(user).unwrap(),
            line: Line { quantity, product: Text::new(product).unwrap() },
        }
    }

    #[test]
    fn the_same_product_adds_up_and_stops_at_the_most() {
        let mut carts = Carts::default();
        for _ in 0..12 {
            carts.add(&add("ann", "mug", 10)).unwrap();
        }
        carts.add(&add("ann", "lamp", 1)).unwrap();
        let lines: Vec<_> = carts
            .get(&Text::literal("ann"))
            .iter()
            .map(|line| (line.product.to_string(), line.quantity))
            .collect();
        assert_eq!(lines, [("mug".into(), 99), ("lamp".into(), 1)]);
        assert!(carts.get(&Text::literal("bob")).is_empty());
        carts.empty(&Text::literal("ann"));
        assert!(carts.get(&Text::literal("ann")).is_empty());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_and_changes_nothing() {
        let mut carts = Carts::default();
        assert_eq!(carts.add(&add("ann", "mug", 0)), Err(CartError::Quantity(0)));
        assert_eq!(carts.add(&add("ann", "mug", 11)), Err(CartError::Quantity(11)));
        assert_eq!(carts.add(&add("", "mug", 1)), Err(CartError::Nameless));
        assert_eq!(carts.users(), 0);
        for nth in 0..LINES_MAX {
            carts.add(&add("ann", &format!("p{nth}"), 1)).unwrap();
        }
        assert_eq!(carts.add(&add("ann", "one-more", 1)), Err(CartError::Full));
    }

    #[test]
    fn the_visitor_unseen_for_longest_makes_room() {
        let mut carts = Carts::with_users_max(3);
        for user in ["a", "b", "c"] {
            carts.add(&add(user, "mug", 1)).unwrap();
        }
        carts.get(&Text::literal("a"));
        carts.add(&add("d", "mug", 2)).unwrap();
        let kept = |carts: &mut Carts| ["a", "b", "c", "d"].map(|user| carts.get(&Text::literal(user)).len());
        assert_eq!(kept(&mut carts), [1, 0, 1, 1]);
        for nth in 0..1000 {
            carts.add(&add(&format!("u{}", nth % 7), "mug", 1)).unwrap();
            assert!(carts.users() <= 3);
        }
    }
}
