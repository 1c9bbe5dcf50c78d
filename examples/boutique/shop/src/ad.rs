//! Ad: a line of advertising that fits what the visitor looks at.

use crate::text::Text;
use crate::wire::{Ad, CATEGORIES, Categories};

/// One advertisement for each category, by bit.
const ADS: [Ad; CATEGORIES.len()] = [
    ad("candle", "Evenings are longer by candlelight. Two for the price of one smile."),
    ad("kettle", "A kettle that sings. Tea tastes better with a little music."),
    ad("fern", "The friend that asks for nothing but a little water."),
    ad("notebook", "A thought not written down is a thought lent to the wind."),
    ad("turntable", "Side A, side B, and nothing in between. Records are back."),
    ad("scarf", "Winter is coming. Be two metres ahead of it."),
    ad("tote", "Carry everything. Or just carry it beautifully."),
];

const fn ad(product: &'static str, text: &'static str) -> Ad {
    Ad { product: Text::literal(product), text: Text::literal(text) }
}

/// What fits these categories; for none of them, one of all, by `turn`. One or two in all.
pub fn ads(categories: Categories, turn: usize) -> impl Iterator<Item = &'static Ad> {
    let fits = move |bit: usize| categories.0 >> bit & 1 == 1;
    let any = (0..ADS.len()).any(fits);
    let chosen = ADS
        .iter()
        .enumerate()
        .filter(move |(bit, _)| if any { fits(*bit) } else { *bit == turn % ADS.len() });
    chosen.map(|(_, ad)| ad).take(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, categories};

    #[test]
    fn ads_fit_the_categories_and_lead_to_products() {
        let check = |names: &[&str], turn, expect: &[&str]| {
            let found: Vec<_> = ads(categories(names), turn).map(|ad| ad.product.as_str()).collect();
            assert_eq!(found, expect);
        };
        check(&["garden"], 3, &["fern"]);
        check(&["kitchen", "home", "desk"], 0, &["candle", "kettle"]);
        check(&[], 8, &["kettle"]);
        assert_eq!(ads(Categories(1 << 31), 0).count(), 1);
        assert!(ADS.iter().all(|ad| Catalog::default().get(&ad.product).is_ok()));
    }
}
