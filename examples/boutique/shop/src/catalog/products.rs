//! The table of products. The first nine are on show; all twelve can be found and bought.

use crate::catalog::categories;
use crate::money::{Code, Money};
use crate::text::Text;
use crate::wire::Product;

/// How many products there are.
pub(super) const COUNT: usize = 12;

/// One row: id, name, picture, dollars and cents, categories, description.
const fn row(
    names: [&'static str; 3],
    (dollars, cents): (i64, i32),
    belongs: &[&str],
    description: &'static str,
) -> Product {
    let price = Money::new(dollars, cents * 10_000_000, Code(*b"USD"));
    let [id, name, picture] = names;
    let ids = (Text::literal(id), Text::literal(name), Text::literal(picture));
    Product {
        description: Text::literal(description),
        ..Product::new(ids.0, ids.1, ids.2, price, categories(belongs))
    }
}

/// Every product.
pub(super) const PRODUCTS: [Product; COUNT] = [
    row(
        ["mug", "Stoneware mug", "mug"],
        (18, 50),
        &["kitchen", "home"],
        "Thrown by hand, glazed in oat and ash, and heavy enough to stay where you put it. Holds a third of a litre and forgives the dishwasher.",
    ),
    row(
        ["lamp", "Anchor desk lamp", "lamp"],
        (89, 0),
        &["desk", "home"],
        "A steel arm that goes where you push it and stays there. Warm light, a real switch, and a base that does not wander.",
    ),
    row(
        ["watch", "Field watch", "watch"],
        (149, 99),
        &["wear", "travel"],
        "Wound by hand, read at a glance, water kept out down to a hundred metres. The strap is canvas and gets better with rain.",
    ),
    row(
        ["headphones", "Quiet headphones", "headphones"],
        (129, 0),
        &["sound", "travel"],
        "Closed, light and calm. Thirty hours from one charge, and every part can be replaced with a single screwdriver.",
    ),
    row(
        ["fern", "Fern in a pot", "fern"],
        (24, 0),
        &["garden", "home"],
        "A sword fern that likes shade and does not hold a missed watering against you. Comes in its clay pot.",
    ),
    row(
        ["tote", "Linen tote", "tote"],
        (32, 75),
        &["travel", "wear"],
        "Two loaves, a book and a bottle, or one small dog. Washed linen, stitched twice wherever it matters.",
    ),
    row(
        ["sunglasses", "Round sunglasses", "sunglasses"],
        (59, 90),
        &["wear", "travel"],
        "Acetate frames and lenses that keep the whole of the ultraviolet out. They come with a case that survives a rucksack.",
    ),
    row(
        ["candle", "Beeswax candle", "candle"],
        (14, 25),
        &["home"],
        "Forty hours of honey light from one hive’s summer. It burns clean and smells of nothing but wax.",
    ),
    row(
        ["notebook", "Dotted notebook", "notebook"],
        (11, 80),
        &["desk"],
        "A hundred and ninety-two numbered pages that lie flat. The paper takes ink on both sides without showing it.",
    ),
    row(
        ["kettle", "Whistling kettle", "kettle"],
        (46, 0),
        &["kitchen"],
        "A litre and a half of brushed steel that sings when it is done and never drips.",
    ),
    row(
        ["scarf", "Lambswool scarf", "scarf"],
        (54, 40),
        &["wear"],
        "Two metres of undyed wool, woven slowly in a mill that has made nothing else for a century.",
    ),
    row(
        ["turntable", "Record player", "turntable"],
        (219, 0),
        &["sound", "home"],
        "Belt drive, a proper arm, and a lid that closes softly. Plug it into anything with a line input.",
    ),
];
