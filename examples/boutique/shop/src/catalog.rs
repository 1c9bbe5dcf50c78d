//! Catalog: what the shop sells.

use zerocopy::IntoBytes;

use crate::failure::Failure;
use crate::wire::{Categories, Product, ProductId};

mod products;

/// Products on show on the first page: the first ones of the table. Search and links reach the others.
pub const FEATURED: usize = 9;
/// Longest word that search looks for, in bytes.
const WORD_MAX: usize = 40;

/// The catalogue.
#[derive(Debug)]
pub struct Catalog {
    products: [Product; products::COUNT],
}

/// Why catalog refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogError {
    /// No product has this id.
    Unknown(ProductId),
    /// The word is empty or longer than 40 bytes.
    Word {
        /// Its length.
        len: usize,
    },
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unknown(id) => Self::new(404, format!("No product is called “{id}”.")),
            CatalogError::Word { len } => {
                Self::new(422, format!("Search for a word of 1 to {WORD_MAX} bytes, not {len}."))
            }
        }
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self { products: products::PRODUCTS }
    }
}

impl Catalog {
    /// Everything.
    pub fn all(&self) -> &[Product] {
        &self.products
    }

    /// The products on show.
    pub fn list(&self) -> &[Product] {
        &self.products[..FEATURED]
    }

    /// Where in [`Self::all`] the product with this id is.
    pub fn position(&self, id: &ProductId) -> Result<usize, CatalogError> {
        self.products.iter().position(|product| product.id == *id).ok_or(CatalogError::Unknown(*id))
    }

    /// The product with this id.
    pub fn get(&self, id: &ProductId) -> Result<&Product, CatalogError> {
        self.position(id).map(|at| &self.products[at])
    }

    /// The products in whose name, description or categories the word occurs, whatever its case.
    pub fn search<'a>(
        &'a self,
        word: &str,
    ) -> Result<impl Iterator<Item = &'a Product> + use<'a>, CatalogError> {
        let word = word.trim().to_lowercase();
        if word.is_empty() || word.len() > WORD_MAX {
            return Err(CatalogError::Word { len: word.len() });
        }
        Ok(self.products.iter().filter(move |product| {
            product.name.as_str().to_lowercase().contains(&word)
                || product.description.as_str().to_lowercase().contains(&word)
                || product.categories.names().any(|name| name.contains(&word))
        }))
    }
}

/// Bytes of the products on show, as they travel.
pub fn featured_bytes(catalog: &Catalog) -> &[u8] {
    catalog.list().as_bytes()
}

/// The set of the categories with these names.
pub const fn categories(names: &[&str]) -> Categories {
    let mut bits = 0;
    let mut nth = 0;
    while nth < names.len() {
        let mut bit = 0;
        while bit < crate::wire::CATEGORIES.len() {
            if same(crate::wire::CATEGORIES[bit].as_bytes(), names[nth].as_bytes()) {
                bits |= 1 << bit;
            }
            bit += 1;
        }
        nth += 1;
    }
    Categories(bits)
}

/// Whether two byte strings are equal, in constants.
const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut nth = 0;
    while nth < left.len() {
        if left[nth] != right[nth] {
            return false;
        }
        nth += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    #[test]
    fn every_product_can_be_got_by_its_id_and_has_a_picture_and_a_category() {
        let catalog = Catalog::default();
        for product in catalog.all() {
            assert_eq!(catalog.get(&product.id), Ok(product));
            assert!(crate::frontend::has_picture(product.picture.as_str()), "{:?}", product.picture);
            assert!(product.categories.names().count() > 0);
            assert!(product.price.total_nanos().unwrap() > 0);
            assert!(!product.description.is_empty());
        }
        let unknown = Text::literal("flying-carpet");
        assert_eq!(catalog.get(&unknown), Err(CatalogError::Unknown(unknown)));
    }

    #[test]
    fn search_looks_at_name_description_and_category_without_case() {
        let catalog = Catalog::default();
        let check = |word: &str, expect: &[&str]| {
            let found: Vec<_> = catalog.search(word).unwrap().map(|product| product.id.as_str()).collect();
            assert_eq!(found, expect, "{word}");
        };
        check("LAMP", &["lamp"]);
        check("sound", &["headphones", "turntable"]);
        check("unobtainium", &[]);
        assert_eq!(catalog.search("  ").map(|_| ()), Err(CatalogError::Word { len: 0 }));
    }
}
